// SPDX-License-Identifier: Apache-2.0

// Package conformance runs network-policy-api's conformance tests of ClusterNetworkPolicy without a cluster: their
// objects go to a fake API server, and the connections that they would make in pods are sent as packets through
// netpold's rules in the kernel. It is its own module, so that the program does not get the dependencies of these
// tests.
package conformance

import (
	"fmt"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
	"sigs.k8s.io/network-policy-api/conformance/tests"
	"sigs.k8s.io/network-policy-api/conformance/utils/config"
	"sigs.k8s.io/network-policy-api/conformance/utils/suite"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate/policy"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// addresses are the addresses of a cluster's pods and nodes.
type addresses struct{ pod, node netip.Addr }

// TestConformance runs every test, those of SCTP too, with pods of either family.
func TestConformance(t *testing.T) {
	for name, first := range map[string]addresses{
		"IPv4": {netip.MustParseAddr("10.244.1.1"), netip.MustParseAddr("192.0.2.1")},
		"IPv6": {netip.MustParseAddr("fd00:10:244::1"), netip.MustParseAddr("2001:db8::1")},
	} {
		t.Run(name, func(t *testing.T) {
			c := newCluster(t, first)
			s := suite.New(suite.Options{
				Client: c.client, ClientSet: c.clientSet, KubeConfig: c.config, EnableAllSupportedFeatures: true,
				TimeoutConfig: config.TimeoutConfig{PokeInterval: time.Millisecond, PokeTimeout: time.Second},
			})
			for port := 34345; len(s.HostNetworkPorts) < 8; port++ {
				s.HostNetworkPorts = append(s.HostNetworkPorts, port)
			}
			s.Applier.FS, s.Applier.HostNetworkPorts = s.FS, s.HostNetworkPorts
			s.Applier.MustApplyWithCleanup(t, c.client, s.TimeoutConfig, s.BaseManifests, false)
			c.startPods(first)
			s.Run(t, tests.ConformanceTests)
			t.Logf("%d tests, %d connections", len(tests.ConformanceTests), c.asked)
			if len(tests.ConformanceTests) < 24 || c.asked < 500 {
				t.Error("some tests or connections are missing")
			}
		})
	}
}

// cluster is a fake cluster: three nodes, the first of which has all pods except those on the host network.
type cluster struct {
	*testing.T
	client    client.Client
	clientSet kubernetes.Interface
	config    rest.Config
	kernel    *enforcer

	mu    sync.Mutex // one connection is tested at a time
	nodes []policy.NodePeer
	asked int
}

func newCluster(t *testing.T, first addresses) *cluster {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha2.Install} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	c := &cluster{T: t, client: fake.NewClientBuilder().WithScheme(scheme).Build(), kernel: newEnforcer(t)}
	for i := range 3 {
		c.nodes = append(c.nodes, policy.NodePeer{Name: fmt.Sprint("n", i+1), Addresses: []netip.Addr{first.node},
			Labels: map[string]string{corev1.LabelOSStable: "linux"}})
		first.node = first.node.Next()
	}
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	c.config = rest.Config{Host: server.URL, QPS: -1}
	var err error
	if c.clientSet, err = kubernetes.NewForConfig(&c.config); err != nil {
		t.Fatal(err)
	}
	return c
}

// startPods makes the pods of the StatefulSets.
func (c *cluster) startPods(first addresses) {
	c.Helper()
	var sets appsv1.StatefulSetList
	if err := c.client.List(c.Context(), &sets); err != nil || len(sets.Items) == 0 {
		c.Fatalf("%d StatefulSets: %v", len(sets.Items), err)
	}
	hosts := c.nodes[1:]
	for _, set := range sets.Items {
		for i := range int(*set.Spec.Replicas) {
			pod := &corev1.Pod{ObjectMeta: set.Spec.Template.ObjectMeta, Spec: set.Spec.Template.Spec}
			pod.Namespace, pod.Name = set.Namespace, fmt.Sprintf("%s-%d", set.Name, i)
			pod.Spec.NodeName, pod.Status.Phase = c.nodes[0].Name, corev1.PodRunning
			pod.Status.PodIP = first.pod.String()
			if first.pod = first.pod.Next(); pod.Spec.HostNetwork {
				pod.Spec.NodeName, pod.Status.PodIP = hosts[0].Name, hosts[0].Addresses[0].String()
				hosts = hosts[1:]
			}
			pod.Status.PodIPs = []corev1.PodIP{{IP: pod.Status.PodIP}}
			if err := c.client.Create(c.Context(), pod); err != nil {
				c.Fatal(err)
			}
		}
	}
}
