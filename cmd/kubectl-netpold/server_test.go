// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/test/harness/kubelet"
)

// server is an API server, and its nodes.
type server struct {
	*testing.T
	lists      map[string][]unstructured.Unstructured // by resource
	kubeconfig string

	mu      sync.Mutex
	netpold map[string]func(context.Context, kubelet.Process) int // by node, of those that do not hang
	asked   chan []string                                         // the arguments of each command, if it has room
}

// daemons are two nodes with netpold.
const daemons = `
kind: Node
metadata: {name: node-1, labels: {kubernetes.io/os: linux}}
---
kind: Node
metadata: {name: node-2, labels: {kubernetes.io/os: linux}}
---
kind: Pod
metadata: {name: netpold-1, namespace: kube-system, labels: {app.kubernetes.io/name: netpold}}
spec: {nodeName: node-1, hostNetwork: true, containers: [{name: netpold}]}
status: {phase: Running, podIP: 192.168.0.1}
---
kind: Pod
metadata: {name: netpold-2, namespace: kube-system, labels: {app.kubernetes.io/name: netpold}}
spec: {nodeName: node-2, hostNetwork: true, containers: [{name: netpold}]}
status: {phase: Running, podIP: 192.168.0.2}
`

// newServer starts a server with the objects of manifests.
func newServer(t *testing.T, manifests ...string) *server {
	t.Helper()
	s := &server{T: t, lists: make(map[string][]unstructured.Unstructured), asked: make(chan []string, 100),
		netpold: make(map[string]func(context.Context, kubelet.Process) int)}
	for _, m := range manifests {
		s.add(m)
	}
	api := httptest.NewServer(s)
	t.Cleanup(api.CloseClientConnections)
	s.kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	config := fmt.Sprintf(`{"apiVersion": "v1", "kind": "Config", "current-context": "c",
		"contexts": [{"name": "c", "context": {"cluster": "c"}}],
		"clusters": [{"name": "c", "cluster": {"server": %q}}]}`, api.URL)
	if err := os.WriteFile(s.kubeconfig, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return s
}

// add adds objects.
func (s *server) add(manifests string) {
	s.Helper()
	resources := map[string]string{"Pod": "pods", "Namespace": "namespaces", "NetworkPolicy": "networkpolicies",
		"Node": "nodes", "ClusterNetworkPolicy": "clusternetworkpolicies"}
	for document := range strings.SplitSeq(manifests, "\n---\n") {
		var o unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(document), &o.Object); err != nil {
			s.Fatal(err)
		}
		if resource := resources[o.GetKind()]; resource != "" {
			s.lists[resource] = append(s.lists[resource], o)
		}
	}
}

// runs sets what netpold does on a node; nil makes it hang.
func (s *server) runs(node string, netpold func(context.Context, kubelet.Process) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.netpold[node] = netpold
}

// answers makes netpold on a node print something and end with an exit code.
func (s *server) answers(node, stdout string, code int) {
	s.runs(node, func(_ context.Context, p kubelet.Process) int {
		out := p.Stdout
		if code == command.ExitError {
			out = p.Stderr
		}
		_, _ = io.WriteString(out, stdout)
		return code
	})
}

// ServeHTTP lists objects, and runs commands.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if path[len(path)-1] == "exec" {
		i := slices.IndexFunc(s.lists["pods"], func(o unstructured.Unstructured) bool {
			return o.GetName() == path[len(path)-2]
		})
		node, _, _ := unstructured.NestedString(s.lists["pods"][i].Object, "spec", "nodeName")
		kubelet.ServeExec(w, r, func(ctx context.Context, p kubelet.Process) int {
			s.asked <- append([]string{node}, p.Args...)
			s.mu.Lock()
			run := s.netpold[node]
			s.mu.Unlock()
			if run != nil {
				return run(ctx, p)
			}
			_, _ = io.Copy(io.Discard, p.Stdin) // until it is not waited for
			return 0
		})
		return
	}
	if r.URL.Path == "/apis/policy.networking.k8s.io/v1alpha2" && s.lists["clusternetworkpolicies"] != nil {
		_, _ = io.WriteString(w, `{"resources": [{"name": "clusternetworkpolicies"}]}`)
		return
	}
	if r.URL.Query().Has("watch") {
		http.Error(w, "nothing is watched here", http.StatusUnprocessableEntity)
		return
	}
	s.list(w, r, path)
}

// list sends the objects of a path such as api/v1/namespaces/shop/pods.
func (s *server) list(w http.ResponseWriter, r *http.Request, path []string) {
	namespace := ""
	if i := slices.Index(path, "namespaces"); i >= 0 && i+2 < len(path) {
		namespace = path[i+1]
	}
	selector, err := labels.Parse(r.URL.Query().Get("labelSelector"))
	if err != nil {
		s.Error(err)
	}
	items, known := s.lists[path[len(path)-1]]
	version := strings.Join(path[1:2], "")
	if path[0] == "apis" {
		version = strings.Join(path[1:3], "/")
	}
	if !known && !strings.HasPrefix(version, "v1") && !strings.HasPrefix(version, "networking.k8s.io") {
		http.NotFound(w, r)
		return
	}
	kind := map[string]string{"pods": "PodList", "nodes": "NodeList", "namespaces": "NamespaceList",
		"networkpolicies": "NetworkPolicyList", "clusternetworkpolicies": "ClusterNetworkPolicyList"}[path[len(path)-1]]
	var found []map[string]any
	for _, o := range items {
		if (namespace == "" || o.GetNamespace() == namespace) && selector.Matches(labels.Set(o.GetLabels())) {
			o.SetAPIVersion(version)
			found = append(found, o.Object)
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"apiVersion": version, "kind": kind, "items": found,
		"metadata": map[string]any{"resourceVersion": "1"}})
}

// run runs kubectl netpold and returns what main would print, and its exit status.
func (s *server) run(args ...string) (stdout, stderr string, exit int) {
	var out, errs bytes.Buffer
	root := rootCommand()
	root.SetArgs(append(args, "--kubeconfig", s.kubeconfig))
	root.SetOut(&out)
	root.SetErr(&errs)
	exit = command.Exit(&errs, root.ExecuteContext(s.Context()))
	return out.String(), errs.String(), exit
}
