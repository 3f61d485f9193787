// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// TestExcerptText: the excerpt and the cluster give operators the same text, whoever is at the ends of the flow.
func TestExcerptText(t *testing.T) {
	hosts := 0
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		c := random.Cluster(r, random.SizeOf(seed))
		s := build(c, node, options(seed))
		s.Complete()
		c = guard(c, node, options(seed))
		c.OverLimit = s.OverLimit()
		flows := random.NewFlows(r, c, nil)
		for range 100 {
			f := flows.Next()
			small := s.Excerpt(f)
			want, got := c.Describe(c.Explain(f)), small.Describe(small.Explain(f))
			if got != want {
				return fmt.Errorf("%s: the excerpt says\n%swant\n%s", f, got, want)
			}
			hosts += strings.Count(want, "hostNetwork")
		}
		return nil
	})
	if hosts == 0 && !testing.Short() {
		t.Error("no flow is about pods with hostNetwork")
	}
}

// TestExcerpt: the excerpt has everything that decides about a flow at a pod of the node, and explains it as the
// cluster does.
func TestExcerpt(t *testing.T) {
	denied := 0
	for _, c := range load(t) {
		s, _ := c.State(c.Node)
		s.Complete()
		for _, f := range c.Flows {
			small := s.Excerpt(f.Flow)
			want, got := c.Cluster.Explain(f.Flow), small.Explain(f.Flow)
			for _, pair := range [][2]policy.Decision{{want.Egress, got.Egress}, {want.Ingress, got.Ingress}} {
				want, got := pair[0], pair[1]
				if want.Pod == nil || want.Pod.Node != c.Node {
					continue
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %s: the excerpt says\n%+v, want\n%+v", f, want.Direction, got, want)
				}
				if want.Allowed {
					continue
				}
				denied++
				d := want.Direction
				if got, want := small.Nearest(f.Flow, d), c.Cluster.Nearest(f.Flow, d); !reflect.DeepEqual(got, want) {
					t.Errorf("%s: %s: nearest in the excerpt: %v, want %v", f, d, got, want)
				}
			}
		}
	}
	if denied == 0 {
		t.Error("no flow is denied")
	}
}

// TestIsolationOf: a chain's name says what it stands for, less exactly when the chain does not exist.
func TestIsolationOf(t *testing.T) {
	chains := 0
	for _, c := range load(t) {
		s, _ := c.State(c.Node)
		for _, chain := range s.Complete().Chains() {
			iso, ok := s.IsolationOf(chain.Name)
			if d, is := frame.KindOf(chain.Name); is != ok || d != iso.Kind {
				t.Errorf("%s: %s: DirectionOf: %v, %t", c.Name, chain.Name, d, is)
			}
			if !ok {
				continue
			}
			chains++
			var names []string
			for _, p := range iso.Policies {
				names = append(names, p.String())
			}
			if text := strings.Join(names, ", "); !strings.HasPrefix(text, chain.Comment) &&
				!strings.HasPrefix(chain.Comment, text) {
				t.Errorf("%s: %s: policies %q, the comment is %q", c.Name, chain.Name, names, chain.Comment)
			}
			gone, ok := translate.New("other", translate.Options{}).IsolationOf(chain.Name)
			if !ok || len(gone.Policies) != 1 || gone.More+1 != len(iso.Policies) || gone.Direction != iso.Direction ||
				!strings.HasPrefix(iso.Policies[0].String(), gone.Policies[0].String()) {
				t.Errorf("%s: %s: by its name %+v, want %+v", c.Name, chain.Name, gone, iso)
			}
		}
	}
	if chains == 0 {
		t.Error("no isolation")
	}
	for _, name := range []string{"", "egress", "ingress-", "ingress-000000000000", "ingress-000000000000-", "mine: ",
		"ports-000000000000"} {
		if iso, ok := translate.New("node", translate.Options{}).IsolationOf(name); ok {
			t.Errorf("%q is %+v", name, iso)
		}
	}
}

// TestHostAt: an address is a node's as long as one of its hostNetwork pods has it.
func TestHostAt(t *testing.T) {
	s := translate.New("node", translate.Options{})
	first, second := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	set := func(name string, hostNetwork bool, ips ...netip.Addr) {
		s.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, Node: "other",
			HostNetwork: hostNetwork, IPs: ips,
		})
	}
	expect := func(a netip.Addr, want bool) {
		t.Helper()
		if name, ok := s.HostAt(a); ok != want || ok && name != "other" {
			t.Errorf("%s: %q, %t", a, name, ok)
		}
	}
	set("a", true, first)
	set("b", true, first)
	set("c", false, second)
	expect(first, true)
	expect(second, false)
	s.DeletePod(types.NamespacedName{Namespace: "ns", Name: "a"})
	expect(first, true)
	set("b", true, second)
	expect(first, false)
	expect(second, true)
	s.DeletePod(types.NamespacedName{Namespace: "ns", Name: "b"})
	expect(second, false)
}

// TestPodAt: an IPv4-mapped address is not the IPv4 address.
func TestPodAt(t *testing.T) {
	s := translate.New("node", translate.Options{})
	s.SetPod(policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: "ns", Name: "a"},
		IPs:            []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	})
	for text, want := range map[string]bool{"10.0.0.1": true, "10.0.0.2": false, "::ffff:10.0.0.1": false} {
		if p, ok := s.PodAt(netip.MustParseAddr(text)); ok != want || ok && p.Name != "a" {
			t.Errorf("%s: %v, %t", text, p, ok)
		}
	}
}

// BenchmarkDrop is what one line about a drop costs: the lookups under the daemon's lock, and the nearest rule.
func BenchmarkDrop(b *testing.B) {
	for _, sc := range scales() {
		b.Run(sc.String(), func(b *testing.B) {
			s := translate.New("node", translate.Options{})
			sc.fill(s)
			s.Complete()
			f := policy.Flow{Src: sc.pod(1).IPs[0], Dst: sc.pod(0).IPs[0], Proto: nft.TCP, DstPort: 9}
			for b.Loop() {
				s.Excerpt(f).Nearest(f, policy.Ingress)
			}
		})
	}
}
