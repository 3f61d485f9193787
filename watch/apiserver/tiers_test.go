// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/netpold/netpold/test/harness/sink"
)

const (
	tiersPath = "/apis/policy.networking.k8s.io/v1alpha2"
	nodesPath = "/api/v1/nodes"
)

// tierServer is an API server that may have ClusterNetworkPolicies.
type tierServer struct {
	asked chan string // each request's path, with "watch" where it is one

	mu        sync.Mutex
	status    map[string]int      // by path, where it is not 200
	initial   map[string][]string // objects, by path
	changes   map[string]chan string
	connected context.Context // ends with the streams that are open
	cut       context.CancelFunc
}

func newTierServer() *tierServer {
	s := &tierServer{asked: make(chan string, 1000), status: map[string]int{}, initial: map[string][]string{},
		changes: map[string]chan string{}}
	for _, path := range []string{tiersPath + "/clusternetworkpolicies", nodesPath} {
		s.changes[path] = make(chan string, 100)
	}
	s.connected, s.cut = context.WithCancel(context.Background())
	return s
}

// set sets the status of paths and ends the streams that are open.
func (s *tierServer) set(status int, paths ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, path := range paths {
		s.status[path] = status
	}
	s.cut()
	s.connected, s.cut = context.WithCancel(context.Background())
}

func (s *tierServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	status, initial, connected := s.status[r.URL.Path], s.initial[r.URL.Path], s.connected
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	watches := r.URL.Query().Get("watch") != ""
	what := r.URL.Path
	if watches {
		what += " watch"
	}
	s.asked <- what
	switch {
	case status != 0:
		w.WriteHeader(status)
		reason := map[int]string{http.StatusForbidden: "Forbidden", http.StatusNotFound: "NotFound"}[status]
		fmt.Fprintf(w, `{"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": %q, "code": %d,
			"message": %q}`,
			reason, status, "it is "+reason)
	case r.URL.Path == tiersPath:
		io.WriteString(w, `{"kind": "APIResourceList", "apiVersion": "v1",
			"resources": [{"name": "clusternetworkpolicies"}]}`)
	case !watches:
		kind := map[bool]string{true: "Node", false: "ClusterNetworkPolicy"}[r.URL.Path == nodesPath]
		fmt.Fprintf(w, `{"kind": "%sList", "apiVersion": %q, "metadata": {"resourceVersion": "1"}, "items": []}`, kind,
			map[bool]string{true: "v1", false: "policy.networking.k8s.io/v1alpha2"}[r.URL.Path == nodesPath])
	default:
		s.stream(w, initial, s.changes[r.URL.Path], connected)
	}
}

func (s *tierServer) stream(w http.ResponseWriter, initial []string, changes chan string,
	ctx context.Context) { //nolint:revive
	for _, o := range initial {
		fmt.Fprintf(w, `{"type": "ADDED", "object": %s}`+"\n", o)
	}
	end := map[string]any{"kind": "ClusterNetworkPolicy", "apiVersion": "policy.networking.k8s.io/v1alpha2",
		"metadata": map[string]any{"resourceVersion": "2",
			"annotations": map[string]string{"k8s.io/initial-events-end": "true"}}}
	if strings.Contains(strings.Join(initial, ""), `"kind": "Node"`) {
		end["kind"], end["apiVersion"] = "Node", "v1"
	}
	text, _ := json.Marshal(end)
	fmt.Fprintf(w, `{"type": "BOOKMARK", "object": %s}`+"\n", text)
	w.(http.Flusher).Flush()
	for {
		select {
		case e := <-changes:
			io.WriteString(w, e+"\n")
			w.(http.Flusher).Flush()
		case <-ctx.Done():
			return
		}
	}
}

// expect waits for a request of a path.
func (s *tierServer) expect(t *testing.T, path string) {
	t.Helper()
	for timeout := time.After(10 * time.Second); ; {
		select {
		case got := <-s.asked:
			if got == path {
				return
			}
		case <-timeout:
			t.Fatalf("nobody asked for %s", path)
		}
	}
}

func tierObject(name, rest string) string {
	return fmt.Sprintf(`{"kind": "ClusterNetworkPolicy", "apiVersion": "policy.networking.k8s.io/v1alpha2", `+
		`"metadata": {"name": %q, "resourceVersion": "1"}, "spec": {"tier": "Admin", "priority": 1, %s}}`, name, rest)
}

// follow makes a source follow the tiers of a server.
func (s *tierServer) follow(t *testing.T) (recorder *sink.Recorder, log sink.Log, complete chan string) {
	t.Helper()
	server := httptest.NewServer(s)
	ctx, stop := context.WithCancel(context.Background())
	recorder, log, complete = sink.NewRecorder(), make(sink.Log, 100), make(chan string, 100)
	source := &Source{Client: clientOf(t, server.URL), Log: slog.New(slog.NewTextHandler(log, nil)),
		discovery: time.Millisecond}
	contact := &contact{sink: recorder, waiting: make(map[string]struct{})}
	done := make(chan struct{})
	tell := func(what string) func() { return sync.OnceFunc(func() { complete <- what }) }
	go func() {
		defer close(done)
		source.followTiers(ctx, optional{source: source, sink: recorder, contact: contact, complete: tell("policies")},
			func() func() { complete <- "needs nodes"; return tell("nodes") })
	}()
	t.Cleanup(func() {
		stop()
		s.set(0)
		<-done
		server.Close()
	})
	return recorder, log, complete
}

// TestTiers: in a cluster without ClusterNetworkPolicies, nothing is logged and nothing waits; they are found when they
// come, with their unknown fields, and nodes are watched when a policy needs them.
func TestTiers(t *testing.T) {
	s := newTierServer()
	s.set(http.StatusNotFound, tiersPath)
	s.initial[tiersPath+"/clusternetworkpolicies"] = []string{tierObject("a",
		`"ingress": [{"action": "Deny", "from": [{"x": 1}]}]`)}
	s.initial[nodesPath] = []string{`{"kind": "Node", "apiVersion": "v1",
		"metadata": {"name": "n1", "labels": {"a": "b"}},
		"status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}}`}
	recorder, log, complete := s.follow(t)
	if got := <-complete; got != "policies" {
		t.Fatalf("complete is %q, while there are none", got)
	}
	s.expect(t, tiersPath)
	s.set(0, tiersPath)
	recorder.Next(t, "set cluster policy a Admin 1 [{ingress 0 spec.ingress[0].from[0].x unknown field}]")
	s.changes[tiersPath+"/clusternetworkpolicies"] <- fmt.Sprintf(`{"type": "MODIFIED", "object": %s}`,
		tierObject("a", `"egress": [{"action": "Deny", "to": [{"nodes": {}}]}]`))
	recorder.Next(t, "set cluster policy a Admin 1 []")
	if got := <-complete; got != "needs nodes" {
		t.Errorf("%q after a nodes peer", got)
	}
	recorder.Next(t, "set node peer n1 a=b [192.0.2.1]")
	if got := <-complete; got != "nodes" {
		t.Errorf("%q after the nodes", got)
	}
	s.changes[tiersPath+"/clusternetworkpolicies"] <- fmt.Sprintf(`{"type": "DELETED", "object": %s}`,
		tierObject("a", `"a": 1`))
	recorder.Next(t, "delete cluster policy a")
	select {
	case line := <-log:
		t.Errorf("logged %s", line)
	case err := <-recorder.Gone:
		t.Errorf("away: %v", err)
	default:
	}
}

// TestTiersGone: when the resource goes, its objects go, too, and come back with it, and the log says both.
func TestTiersGone(t *testing.T) {
	s := newTierServer()
	s.initial[tiersPath+"/clusternetworkpolicies"] = []string{tierObject("a", `"egress": []`)}
	recorder, log, _ := s.follow(t)
	recorder.Next(t, "set cluster policy a Admin 1 []")
	s.set(http.StatusNotFound, tiersPath, tiersPath+"/clusternetworkpolicies")
	recorder.Next(t, "delete cluster policy a")
	log.Expect(t, "no longer has a resource", "clusternetworkpolicies")
	s.set(0, tiersPath, tiersPath+"/clusternetworkpolicies")
	log.Expect(t, "has a resource again", "clusternetworkpolicies")
	recorder.Next(t, "set cluster policy a Admin 1 []")
}

// TestTiersForbidden: that the account may not list them is logged once, and holds nothing up.
func TestTiersForbidden(t *testing.T) {
	s := newTierServer()
	s.set(http.StatusForbidden, tiersPath+"/clusternetworkpolicies")
	s.initial[tiersPath+"/clusternetworkpolicies"] = []string{tierObject("a", `"egress": []`)}
	recorder, log, complete := s.follow(t)
	if got := <-complete; got != "policies" {
		t.Fatalf("complete is %q", got)
	}
	log.Expect(t, "not allowed to list a resource", "clusternetworkpolicies")
	for range 3 {
		s.expect(t, tiersPath+"/clusternetworkpolicies")
	}
	s.set(0, tiersPath+"/clusternetworkpolicies")
	recorder.Next(t, "set cluster policy a Admin 1 []")
	select {
	case line := <-log:
		t.Errorf("logged again: %s", line)
	default:
	}
}
