// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// containers makes events of a node's container runtime: with few ids, so that they come again, names of pods that the
// API knows or not, and addresses that they or others have.
type containers struct {
	r      *rand.Rand
	serial uint64
	live   map[string]policy.Sandbox
}

// next changes the runtime and returns what tells a state of it.
func (rt *containers) next(c *policy.Cluster) func(*translate.State) {
	id := fmt.Sprint("sandbox-", rt.r.IntN(6))
	if rt.r.IntN(3) == 0 || len(c.Pods) == 0 {
		delete(rt.live, id)
		return func(s *translate.State) { s.DeleteSandbox(id) }
	}
	like, other := c.Pods[rt.r.IntN(len(c.Pods))], c.Pods[rt.r.IntN(len(c.Pods))]
	rt.serial++
	b := policy.Sandbox{ID: id, NamespacedName: like.NamespacedName, Node: node, Labels: like.Labels, IPs: like.IPs,
		Serial: rt.serial}
	switch rt.r.IntN(4) {
	case 0:
		b.IPs = other.IPs
	case 1:
		b.IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(rt.r.IntN(8))})}
	case 2:
		b.NamespacedName = types.NamespacedName{Namespace: like.Namespace, Name: "not-told-yet"}
	}
	b.Stale = rt.r.IntN(4) == 0
	rt.live[id] = b
	return func(s *translate.State) { s.SetSandbox(b) }
}

// sandboxes returns the live ones in a fixed order.
func (rt *containers) sandboxes() []policy.Sandbox {
	var all []policy.Sandbox
	for _, id := range slices.Sorted(maps.Keys(rt.live)) {
		all = append(all, rt.live[id])
	}
	return all
}

// TestSandboxes: the runtime and the API report pods in any order. The table is that of the cluster and the current
// sandboxes, and the rules agree with the policies' own text.
func TestSandboxes(t *testing.T) {
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		g := random.NewGenerator(r, random.SizeOf(seed))
		c := g.Cluster()
		rt := &containers{r: r, live: make(map[string]policy.Sandbox)}
		s := build(c, node, unlimited(seed))
		for step := range 12 {
			for range 1 + r.IntN(5) {
				if r.IntN(2) == 0 {
					rt.next(c)(s)
					continue
				}
				e := g.Event(c)
				e.Apply(s)
				e.ApplyTo(c)
			}
			c.Sandboxes = rt.sandboxes()
			fresh := build(c, node, unlimited(seed))
			if want, got := fresh.Complete().String(), s.Complete().String(); got != want {
				return fmt.Errorf("step %d: the table depends on the way to it:\n%s", step, diff(want, got))
			}
			if want, got := fresh.Sizes(), s.Sizes(); !maps.Equal(want, got) {
				return fmt.Errorf("the state remembers more than there is: want %v, got %v", want, got)
			}
			flows, guarded := random.NewFlows(r, c, nil), guard(c, node, unlimited(seed))
			for range 30 {
				if err := agree(guarded, node, s.Complete(), flows.Next()); err != nil {
					return fmt.Errorf("step %d: %w, with the sandboxes %+v of\n%s", step, err, c.Sandboxes,
						random.Manifest(c))
				}
			}
		}
		return nil
	})
}

// TestSandboxWithoutGap: knowledge of an address passes within one event from the runtime to the API and to the next
// pod.
func TestSandboxWithoutGap(t *testing.T) {
	s := translate.New(node, translate.Options{})
	a := netip.MustParseAddr("10.0.0.1")
	name := types.NamespacedName{Namespace: "ns", Name: "a"}
	owner := func() string {
		p, ok := s.PodAt(a)
		if !ok {
			return ""
		}
		return p.String()
	}
	want := func(step, pod string) {
		t.Helper()
		if got := owner(); got != pod {
			t.Errorf("%s: the address is %q's, want %q", step, got, pod)
		}
	}
	s.SetSandbox(policy.Sandbox{ID: "1", NamespacedName: name, Node: node, IPs: []netip.Addr{a}, Serial: 1})
	want("the runtime first", "ns/a")
	s.SetPod(policy.Pod{NamespacedName: name, Node: node})
	want("the API knows the pod without address", "ns/a")
	s.SetPod(policy.Pod{NamespacedName: name, Node: node, IPs: []netip.Addr{a}, Running: true})
	want("the API knows the address", "ns/a")
	s.DeleteSandbox("1")
	want("the sandbox is gone, and the API has not noticed", "ns/a")
	next := types.NamespacedName{Namespace: "ns", Name: "b"}
	s.SetSandbox(policy.Sandbox{ID: "2", NamespacedName: next, Node: node, IPs: []netip.Addr{a}, Serial: 2})
	want("the next pod's sandbox", "ns/b")
	s.DeletePod(name)
	want("the API has noticed", "ns/b")
	s.DeleteSandbox("2")
	want("nobody", "")
}
