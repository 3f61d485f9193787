// SPDX-License-Identifier: Apache-2.0

package random_test

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// TestSeed makes everything twice from one seed.
func TestSeed(t *testing.T) {
	run := func() string {
		r := random.Source(7)
		g := random.NewGenerator(r, random.Large())
		c := g.Cluster()
		var b strings.Builder
		for range 200 {
			e := g.Event(c)
			e.ApplyTo(c)
			fmt.Fprintln(&b, e)
		}
		b.WriteString(random.Manifest(c))
		flows := random.NewFlows(r, c, nil)
		for range 200 {
			fmt.Fprintln(&b, flows.Next())
		}
		return b.String()
	}
	if first, second := run(), run(); first != second {
		t.Error("one seed made two clusters")
	}
}

// TestPod compares pods read from manifests with the original ones. Some have an address that no pod can have.
func TestPod(t *testing.T) {
	for seed := range uint64(50) {
		for _, p := range random.Cluster(random.Source(seed), random.Large()).Pods {
			want := p
			want.IPs = slices.DeleteFunc(slices.Clone(p.IPs), func(a netip.Addr) bool {
				return !p.HostNetwork && (a.IsUnspecified() || a.IsLoopback() || a.IsMulticast())
			})
			got, ok, err := policy.PodFrom(random.Pod(p))
			named := len(want.IPs) < len(p.IPs)
			if !ok || (err != nil) != named || !slices.Equal(got.IPs, want.IPs) || fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("seed %d: got %v, %t, %v; want %v", seed, got, ok, err, want)
			}
		}
	}
}

// TestUndo does and undoes events.
func TestUndo(t *testing.T) {
	r := random.Source(1)
	g := random.NewGenerator(r, random.Large())
	c := g.Cluster()
	for range 500 {
		changed := *c
		e := g.Event(c)
		e.ApplyTo(&changed)
		e.Undo(c).ApplyTo(&changed)
		if len(changed.Pods) != len(c.Pods) || len(changed.Policies) != len(c.Policies) ||
			!reflect.DeepEqual(changed.Namespaces, c.Namespaces) {
			t.Fatalf("%s: not undone", e)
		}
	}
}

// TestMinimise looks for the smallest cluster in which a policy still has an except.
func TestMinimise(t *testing.T) {
	excepts := func(c *policy.Cluster) bool {
		for _, np := range c.Policies {
			for _, r := range np.Spec.Ingress {
				for _, peer := range r.From {
					if peer.IPBlock != nil && len(peer.IPBlock.Except) > 0 {
						return true
					}
				}
			}
		}
		return false
	}
	c := random.Minimise(random.Cluster(random.Source(2), random.Large()), excepts)
	if !excepts(c) || len(c.Policies) != 1 || len(c.Pods) != 0 || len(c.Namespaces) != 0 {
		t.Error(random.Manifest(c))
	}
	np := c.Policies[0].Spec
	if len(np.Egress) != 0 || len(np.Ingress) != 1 || len(np.Ingress[0].Ports) != 0 ||
		len(np.Ingress[0].From[0].IPBlock.Except) != 1 {
		t.Error(random.Manifest(c))
	}
}

// TestCoverage: every kind of object, rule and error is made often.
func TestCoverage(t *testing.T) {
	words := []string{
		"must be a CIDR", "must be a strict subset", "may not specify both", "must specify a peer",
		"not a valid selector operator",
		"must be specified when endPort", "may not be specified when port is a name", "must be between 1 and 65535",
		"must be between port",
		"policyTypes", "ports[0].protocol", "for 'in', 'notin'", "must be empty", "matchLabels",
		"port: Invalid value: \"",
	}
	count := make(map[string]int)
	for seed := range uint64(600) {
		s := translate.New("node-1", translate.Options{})
		for _, err := range s.Add(random.Cluster(random.Source(seed), random.Small())) {
			for _, w := range words {
				if strings.Contains(err.Error(), w) {
					count[w]++
				}
			}
		}
	}
	for _, w := range words {
		if count[w] < 3 {
			t.Errorf("%q: %d times", w, count[w])
		}
	}
}

// TestEdges: policies and flows often meet at the edges of the families.
func TestEdges(t *testing.T) {
	texts := []string{
		"0.0.0.0/0 :", "::/0 :", " ::fffe:0:0", "-::fffe:ffff:f", "-::fffd:ffff:ffff :", " ::ffff:0.0.0.0-",
		"-::ffff:255.255.255.255 :",
		" ::1:0:0:0", " 64:ff9b::/96 :", "-64:ff9b::ffff:ffff :", "-255.255.255.255 :",
		"-ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff :",
	}
	count := make(map[string]int)
	for seed := range uint64(600) {
		r := random.Source(seed)
		c := random.Cluster(r, random.Small())
		s := translate.New("node-1", translate.Options{})
		s.Add(c)
		table := s.Complete().String()
		for _, text := range texts {
			if strings.Contains(table, text) {
				count[text]++
			}
		}
		flows := random.NewFlows(r, c, nil)
		for range 20 {
			if f := flows.Next(); f.Src.Is4In6() || f.Dst.Is4In6() {
				count["mapped"]++
			}
		}
	}
	for _, what := range append(texts, "mapped") {
		if t.Logf("%q: %d", what, count[what]); count[what] < 3 {
			t.Errorf("%q: %d times", what, count[what])
		}
	}
}

// TestCase writes a golden case.
func TestCase(t *testing.T) {
	c := random.Cluster(random.Source(3), random.Small())
	f := random.NewFlows(random.Source(3), c, nil).Next()
	f.Proto, f.DstPort = nft.TCP, 80
	text := random.Case("seed 3", policy.Answer{Flow: f, Allowed: true}, c)
	for _, want := range []string{"# seed 3\n-- cluster.yaml --\n", "kind: NetworkPolicy\n",
		"\n-- flows --\nallow ", ":80/tcp\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}
