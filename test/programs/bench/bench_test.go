// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"iter"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/apiserver"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// requireNamespaces skips the test if the machine lacks what the benchmarks need.
func requireNamespaces(t *testing.T) {
	t.Helper()
	err := thread(func() error {
		s, err := newSpace()
		if err != nil {
			return err
		}
		return s.Close()
	})
	netns.Require(t, err)
}

// TestWorlds: in each curve, both rulesets allow the connection, but no stranger's, and something is measured.
func TestWorlds(t *testing.T) {
	requireNamespaces(t)
	for _, c := range curves() {
		at := c.at[:2]
		m, base := figures.Measure{ID: c.id}, figures.Measure{}
		b := bench{quick: true}
		if err := b.packetCurve(t.Context(), c, at, &m, &base); err != nil {
			t.Fatalf("%s: %v", c.id, err)
		}
		for i, n := range at {
			if p := base.Series[0].Points[i]; p.X != float64(n) || p.Min <= 0 || len(p.Rounds) < 5 {
				t.Errorf("%s, %d: conntrack alone: %+v", c.id, n, p)
			}
		}
		if want := map[bool]int{true: 3, false: 4}[c.id == "tiers" || c.id == "sequence"]; len(m.Series) != want {
			t.Errorf("%s: %d series, want %d", c.id, len(m.Series), want)
		}
	}
}

// TestCheck: a ruleset that allows nothing or everything is detected.
func TestCheck(t *testing.T) {
	requireNamespaces(t)
	w := withPolicies(1)
	for name, rules := range map[string]string{
		"nothing":    "table inet t { chain c { type filter hook forward priority 0; drop; }; }",
		"everything": baseline,
	} {
		err := thread(func() error {
			s, err := newSpace()
			if err != nil {
				return err
			}
			defer closeQuietly(s)
			if err := s.loadText(rules); err != nil {
				return err
			}
			if check([]contender{{seriesNetpold, s, datagrams(w.clients, w.server)}}, w) == nil {
				t.Errorf("%s is let through, and that is not found out", name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestSizes: the synthetic clusters have the sizes that their names say, and every kind of policy, and all of it
// compiles.
func TestSizes(t *testing.T) {
	for _, z := range []size{{1000, 100}, {10_000, 100}, {10_000, 1000}} {
		s := translate.New(nodeName, translate.Options{})
		if err := z.fill(s); err != nil {
			t.Fatal(err)
		}
		c := s.Cluster()
		if len(c.Pods) != z.pods || len(c.Policies) != z.policies || len(c.Namespaces) != z.namespaces() {
			t.Errorf("%s: %d pods, %d policies, %d namespaces", z, len(c.Pods), len(c.Policies), len(c.Namespaces))
		}
		if n := len(z.localPods()); n != podsPerNode {
			t.Errorf("%s: %d pods on the node", z, n)
		}
		if s.Complete().Take().Len() < 50 {
			t.Errorf("%s: next to nothing to enforce", z)
		}
		specs := make(map[int]bool)
		for i := range z.policies {
			specs[(i/z.namespaces()+i%z.namespaces())%kinds] = true
		}
		if len(specs) != kinds {
			t.Errorf("%s: %d kinds of policies, want %d", z, len(specs), kinds)
		}
	}
}

// sink counts the pods, namespaces and NetworkPolicies of a source, which has nothing else.
type sink struct {
	watch.Objects
	mu                         sync.Mutex
	pods, namespaces, policies map[types.NamespacedName]bool
	synced                     chan struct{}
}

func (s *sink) Update(edit func(watch.Objects)) { s.mu.Lock(); defer s.mu.Unlock(); edit(s) }
func (s *sink) Synced()                         { close(s.synced) }
func (s *sink) Away(error)                      {}

func (s *sink) SetPod(p policy.Pod)                      { s.pods[p.NamespacedName] = true }
func (*sink) SetNamespaceMode(string, map[string]string) {}
func (s *sink) SetNamespace(name string, _ map[string]string) {
	s.namespaces[types.NamespacedName{Name: name}] = true
}
func (s *sink) SetPolicy(np *networkingv1.NetworkPolicy) {
	s.policies[types.NamespacedName{Namespace: np.Namespace, Name: np.Name}] = true
}

func (s *sink) Pods() iter.Seq[types.NamespacedName]       { return maps.Keys(s.pods) }
func (s *sink) Namespaces() iter.Seq[types.NamespacedName] { return maps.Keys(s.namespaces) }
func (s *sink) Policies() iter.Seq[types.NamespacedName]   { return maps.Keys(s.policies) }
func (s *sink) ClusterPolicies() iter.Seq[types.NamespacedName] {
	return func(func(types.NamespacedName) bool) {}
}

// TestAPIServer: the source gets everything from the stand-in for an API server.
func TestAPIServer(t *testing.T) {
	z := size{1000, 100}
	server := z.serve()
	defer server.Close()
	kubeconfig, err := server.Kubeconfig(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	client, err := apiserver.NewClient(kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{
		pods: make(map[types.NamespacedName]bool), namespaces: make(map[types.NamespacedName]bool),
		policies: make(map[types.NamespacedName]bool), synced: make(chan struct{}),
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	source := apiserver.Source{Client: client, Log: slog.New(slog.DiscardHandler)}
	go source.Run(ctx, s) //nolint:errcheck // it has none
	select {
	case <-s.synced:
	case <-time.After(time.Minute):
		t.Fatal("the source is not synced after a minute")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if got, want := []int{len(s.pods), len(s.namespaces), len(s.policies)},
		[]int{z.pods, z.namespaces(), z.policies}; !slices.Equal(got, want) {
		t.Errorf("pods, namespaces and policies: %d, want %d", got, want)
	}
}

// TestQuantile: the median of rounds; and the p99 of a hundred values and more is not the greatest.
func TestQuantile(t *testing.T) {
	values := make([]float64, 200)
	for i := range values {
		values[len(values)-1-i] = float64(i)
	}
	if p50, p99 := figures.Quantile(values, 0.5), figures.Quantile(values, 0.99); p50 != 100 || p99 != 198 {
		t.Errorf("p50 %v, p99 %v", p50, p99)
	}
}
