// SPDX-License-Identifier: Apache-2.0

package random_test

import (
	"encoding/json"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/equality"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate/policy"
)

// TestTierCoverage: every fault is made often, and every tier often decides in each way.
func TestTierCoverage(t *testing.T) {
	words := []string{
		"is not Admin or Baseline", "spec.sunset: unknown field", "spec.subject: no field", "spec.subject: it has more",
		"spec.subject.", "is not Accept, Deny or Pass", "there is no peer", "to[0].services", "from[0].services",
		"].except", "]: no field", "]: it has more", "domainNames", "is not a CIDR", "nodes and networks have no named",
		"no field of the protocol", "65536 is not in", "is not a range", "80-80", "Like",
	}
	count := make(map[string]int)
	for seed := range uint64(800) {
		r := random.Source(seed)
		c := random.Tiered(r, random.Small())
		for _, err := range c.Faults() {
			for _, w := range words {
				if strings.Contains(err.Error(), w) {
					count[w]++
				}
			}
		}
		if len(c.Ties()) > 0 {
			count["ties"]++
		}
		flows := random.NewFlows(r, c, nil)
		for range 20 {
			f := flows.Next()
			if f.Service {
				count["service"]++
			}
			e := c.Explain(f)
			for _, d := range []policy.Decision{e.Egress, e.Ingress} {
				if d.Admin != nil {
					count["Admin "+string(d.Admin.Action)]++
				}
				if d.Baseline != nil {
					count["Baseline "+string(d.Baseline.Action)]++
				}
			}
		}
	}
	for _, tier := range []string{"Admin ", "Baseline "} {
		words = append(words, tier+"Accept", tier+"Deny", tier+"Pass")
	}
	for _, w := range append(words, "ties", "service") {
		if t.Logf("%q: %d", w, count[w]); count[w] < 3 {
			t.Errorf("%q: %d times", w, count[w])
		}
	}
}

// TestTierManifest: ClusterNetworkPolicies read back from manifests are the same, with their unknown fields.
func TestTierManifest(t *testing.T) {
	for seed := range uint64(200) {
		c := random.Tiered(random.Source(seed), random.Small())
		next := 0
		for text := range strings.SplitSeq(random.Manifest(c), "---\n") {
			if !strings.Contains(text, "kind: ClusterNetworkPolicy\n") {
				continue
			}
			text, err := yaml.YAMLToJSON([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			got, err := policy.ReadClusterPolicy(text)
			if err != nil {
				t.Fatal(err)
			}
			want := c.ClusterPolicies[next]
			next++
			if !equality.Semantic.DeepEqual(got.Unread, want.Unread) || !sameSpec(got, want) {
				t.Fatalf("seed %d: read %v %+v\nwant %v %+v", seed, got.Unread, got.Spec, want.Unread, want.Spec)
			}
		}
		if next != len(c.ClusterPolicies) {
			t.Fatalf("seed %d: %d policies of %d", seed, next, len(c.ClusterPolicies))
		}
	}
}

// sameSpec compares what the API would send.
func sameSpec(a, b policy.ClusterPolicy) bool {
	one, _ := json.Marshal(a.Spec)
	two, _ := json.Marshal(b.Spec)
	return string(one) == string(two)
}

// TestTierUndo does and undoes events about tiers, and minimises a cluster.
func TestTierUndo(t *testing.T) {
	g := random.NewGenerator(random.Source(1), random.Large())
	c := g.Cluster()
	g.AddTiers(c)
	kinds := make(map[random.Kind]int)
	for range 500 {
		changed := *c
		e := g.Event(c)
		kinds[e.Kind]++
		e.ApplyTo(&changed)
		e.Undo(c).ApplyTo(&changed)
		if len(changed.ClusterPolicies) != len(c.ClusterPolicies) || len(changed.NodePeers) != len(c.NodePeers) {
			t.Fatalf("%s: not undone", e)
		}
		e.ApplyTo(c)
	}
	if kinds[random.ClusterPolicyKind] < 50 || kinds[random.NodePeerKind] < 10 {
		t.Errorf("events: %v", kinds)
	}
	faulty := func(c *policy.Cluster) bool {
		for _, err := range c.Faults() {
			if strings.Contains(err.Error(), "services: unknown field") {
				return true
			}
		}
		return false
	}
	small := random.Minimise(random.Tiered(random.Source(3), random.Huge()), faulty)
	if !faulty(small) || len(small.ClusterPolicies) != 1 ||
		len(small.Pods)+len(small.Policies)+len(small.NodePeers) > 0 ||
		len(small.ClusterPolicies[0].Unread) != 1 {
		t.Error(random.Manifest(small))
	}
}
