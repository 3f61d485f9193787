// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/test/harness/cases"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/tier"
)

const node = "node-1"

// Flags to run other seeds, or a single one: go test ./translate -seed=7 -clusters=1
var (
	firstSeed = flag.Uint64("seed", 0, "the first seed of the random clusters")
	clusters  = flag.Uint64("clusters", 128, "how many random clusters each test makes")
)

// forSeeds runs check for some seeds, always the same ones without flags; a failure names its seed.
func forSeeds(t *testing.T, check func(seed uint64) error) {
	t.Helper()
	n := *clusters
	if testing.Short() {
		n /= 10
	}
	for seed := *firstSeed; seed < *firstSeed+n; seed++ {
		if err := check(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}

// options returns the options of a seed.
func options(seed uint64) translate.Options {
	o := translate.Options{LogGroup: uint16(seed % 2), Limits: random.Limits(seed)}
	if seed%3 == 0 {
		o.Deny = nft.Reject
	}
	if seed%5 == 0 {
		o.Established = frame.Recheck
	}
	o.TwoWays = seed%7 < 2
	if o.TierBounds = tier.DefaultBounds(); seed%4 == 1 { // every other one of those with tiers
		o.TierBounds.Elements = int(seed / 4 % 30)
	} else if seed%8 == 3 {
		o.TierBounds.Pods = int(seed / 8 % 6)
	}
	if seed%8 < 3 {
		o.WideFrom = 1 + int(seed%8)
	}
	random.SetGuard(&o, seed)
	return o
}

// unlimited is options without limits, for tests in which what exceeds a limit changes on the way.
func unlimited(seed uint64) translate.Options {
	o := options(seed)
	o.Limits = content.Limits{}
	return o
}

// clusterOf returns the cluster of a seed: every other one has ClusterNetworkPolicies.
func clusterOf(g *random.Generator, seed uint64) *policy.Cluster {
	c := g.Cluster()
	if seed%2 == 1 {
		g.AddTiers(c)
	}
	return c
}

// build returns a node's state of a cluster.
func build(c *policy.Cluster, node string, o translate.Options) *translate.State {
	s := translate.New(node, o)
	s.Add(c)
	return s
}

// TestExplain compares the policies' own text with the compiled rules, for the flows of many clusters.
func TestExplain(t *testing.T) {
	forSeeds(t, func(seed uint64) error {
		explainAgrees(t, seed)
		return nil
	})
}

// TestFaults: what does not compile is a fault according to the policies' own text, and the reverse.
func TestFaults(t *testing.T) {
	var clusters []*policy.Cluster
	for _, c := range load(t) {
		clusters = append(clusters, c.Cluster)
	}
	forSeeds(t, func(seed uint64) error {
		clusters = append(clusters, random.Cluster(random.Source(seed), random.SizeOf(seed)))
		return nil
	})
	faulty := 0
	for _, c := range clusters {
		for _, np := range c.Policies {
			one := &policy.Cluster{Policies: []*networkingv1.NetworkPolicy{np}}
			err, faults := translate.New(node, translate.Options{}).SetPolicy(np), one.Faults()
			if (err != nil) != (len(faults) > 0) {
				t.Errorf("the compiler says %v, the policy's text has %v", err, faults)
			}
			faulty += min(1, len(faults))
		}
	}
	if faulty == 0 {
		t.Error("no policy has a fault")
	}
}

// FuzzCluster is TestExplain for endless seeds:
//
//	go test -run=^$ -fuzz=FuzzCluster ./translate
func FuzzCluster(f *testing.F) {
	f.Add(uint64(0))
	f.Add(uint64(7))
	f.Fuzz(explainAgrees)
}

// explainAgrees compares the two answers for the flows of one cluster, on every node. Differences are minimised and
// kept as a golden case.
func explainAgrees(t *testing.T, seed uint64) {
	r := random.Source(seed)
	c := clusterOf(random.NewGenerator(r, random.SizeOf(seed)), seed)
	flows := random.NewFlows(r, c, nil)
	states := make(map[string]*nft.Table)
	for _, node := range random.Nodes() {
		s := build(c, node, options(seed))
		states[node] = s.Complete()
		c.OverLimit = append(c.OverLimit, s.OverLimit()...)
	}
	guarded := make(map[string]*policy.Cluster)
	for node := range states {
		guarded[node] = guard(c, node, options(seed))
	}
	for range 300 {
		f := flows.Next()
		for node, table := range states {
			err := agree(guarded[node], node, table, f)
			if err == nil {
				continue
			}
			smallest := random.Minimise(c, func(c *policy.Cluster) bool {
				return agree(guard(c, node, options(seed)), node, build(c, node, options(seed)).Complete(), f) != nil
			})
			smallest = guard(smallest, node, options(seed))
			comment := fmt.Sprintf("Seed %d, on %s: %v.", seed, node,
				agree(smallest, node, build(smallest, node, options(seed)).Complete(), f))
			keep(t, fmt.Sprintf("seed-%d.txtar", seed), random.Case(comment, smallest.Explain(f), smallest))
		}
	}
}

// guard returns c with the guard of a node.
func guard(c *policy.Cluster, node string, o translate.Options) *policy.Cluster {
	guarded := *c
	guarded.Guard = random.Guard(c, node, o)
	return &guarded
}

// keep ends the test with a golden case, which it also writes to the temporary directory.
func keep(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(os.TempDir(), "netpold-"+name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Error(err)
	}
	t.Fatalf("kept as %s:\n%s", path, text)
}

// agree says whether the policies of c, in the directions that the node decides, allow f exactly when the node's table
// does.
func agree(c *policy.Cluster, node string, table *nft.Table, f policy.Flow) error {
	trail, err := trace.Follow(table, frame.PacketOf(f))
	steps, v := trail.Steps, trail.Verdict
	if err != nil {
		return err
	}
	e := c.Explain(f)
	if e.Allowed != (e.Egress.Allowed && e.Ingress.Allowed) {
		return fmt.Errorf("%s: allowed is %t, of %+v", f, e.Allowed, e)
	}
	if c.Describe(e) == "" {
		return fmt.Errorf("%s: no description of %+v", f, e)
	}
	allowed := true
	would := cases.WouldDeny(trail)
	for _, d := range []policy.Decision{e.Egress, e.Ingress} {
		if here := d.Pod != nil && d.Pod.Node == node; would[d.Direction] != (allowed && here && d.WouldDeny()) {
			return fmt.Errorf("%s: audited policies would deny it: %+v, the rules: %v by %v", f, d, would, steps)
		}
		admin := d.Admin != nil && d.Admin.Action != v1alpha2.ClusterNetworkPolicyRuleActionPass
		if by := d.Allowed && d.Isolated && !admin && d.Exempt == ""; by != (d.AllowedBy != nil) {
			return fmt.Errorf("%s: allowed by no rule, or by one for nothing: %+v", f, d)
		}
		allowed = allowed && !d.Unknown && (d.Pod == nil || d.Pod.Node != node || d.Allowed)
	}
	if allowed != (v.Kind == nft.Accept) {
		return fmt.Errorf("%s: Explain allows it: %t, the rules: %s by %v", f, allowed, v, steps)
	}
	return nil
}

// TestPathIndependence: states that reach the same cluster on different ways have the same table.
func TestPathIndependence(t *testing.T) {
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		g := random.NewGenerator(r, random.SizeOf(seed))
		c := clusterOf(g, seed)
		want := build(c, node, options(seed)).Complete().String()
		for way := range 3 {
			s := translate.New(node, options(seed))
			wander(r, g, c, s)
			if got := s.Complete().String(); got != want {
				return fmt.Errorf("way %d: the table depends on it:\n%s", way, diff(want, got))
			}
			if got := build(s.Cluster(), node, options(seed)).Complete().String(); got != want {
				return fmt.Errorf("way %d: the state's own objects make another table:\n%s", way, diff(want, got))
			}
		}
		return nil
	})
}

// wander brings s to c: every object of it in any order, several times, with others that come and go in between.
func wander(r *rand.Rand, g *random.Generator, c *policy.Cluster, s *translate.State) {
	events := random.Events(c)
	events = append(events, events...)
	r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
	var detours []random.Event
	for i, e := range events {
		if c.GateReached && i == len(events)/2 {
			s.SetGateReached()
		}
		for r.IntN(3) == 0 {
			detour := g.Event(c)
			detour.Apply(s)
			detours = append(detours, detour)
		}
		e.Apply(s)
		if r.IntN(4) == 0 {
			s.Complete()
		}
	}
	r.Shuffle(len(detours), func(i, j int) { detours[i], detours[j] = detours[j], detours[i] })
	for _, d := range detours {
		d.Undo(c).Apply(s)
		if r.IntN(6) == 0 {
			s.Complete().Take()
		}
	}
}

// TestTransactions applies the transactions of a changing cluster to a model of the kernel: it accepts each one, and
// ends with what one transaction makes from scratch.
func TestTransactions(t *testing.T) {
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		g := random.NewGenerator(r, random.SizeOf(seed))
		c := clusterOf(g, seed)
		s := build(c, node, options(seed))
		var kernel model
		for step := range 30 {
			for range 1 + r.IntN(3) {
				e := g.Event(c)
				e.Apply(s)
				e.ApplyTo(c)
				if r.IntN(3) == 0 {
					s.Complete()
				}
			}
			if r.IntN(20) == 0 {
				s.Complete().Forget()
			}
			if tx := s.Complete().Take(); tx != nil {
				if err := kernel.apply(tx); err != nil {
					return fmt.Errorf("step %d: %w in\n%s", step, err, tx)
				}
			}
			if r.IntN(3) > 0 {
				continue
			}
			if err := kernel.settle(s.Complete()); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
			if err := sameAsNew(&kernel, s, c, options(seed)); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
		}
		return nil
	})
}

// sameAsNew says whether the kernel has what a new process would make of c.
func sameAsNew(kernel *model, s *translate.State, c *policy.Cluster, o translate.Options) error {
	fresh := build(c, node, o)
	var whole model
	if err := whole.apply(fresh.Complete().Take()); err != nil {
		return fmt.Errorf("from scratch: %w", err)
	}
	if !reflect.DeepEqual(&whole, kernel) {
		return fmt.Errorf("the kernel does not hold what it should:\n%s", diff(whole.String(), kernel.String()))
	}
	if tx := s.Complete().Take(); tx != nil {
		return fmt.Errorf("still pending:\n%s", tx)
	}
	return nil
}

// TestLeaks deletes everything again, in any order: the state and the kernel are as empty as new ones.
func TestLeaks(t *testing.T) {
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		g := random.NewGenerator(r, random.SizeOf(seed))
		c := clusterOf(g, seed)
		s := translate.New(node, options(seed))
		wander(r, g, c, s)
		fresh := build(c, node, options(seed))
		fresh.Complete()
		s.Complete()
		if want, got := fresh.Sizes(), s.Sizes(); !maps.Equal(want, got) {
			return fmt.Errorf("the state remembers more than the cluster has: want %v, got %v", want, got)
		}
		events := random.Events(c)
		r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		for _, e := range events {
			random.Event{Kind: e.Kind, Name: e.Name, Delete: true}.Apply(s)
			if r.IntN(3) == 0 {
				s.Complete()
			}
		}
		empty := translate.New(node, options(seed))
		if c.GateReached {
			empty.SetGateReached()
		}
		if want, got := empty.Complete().String(), s.Complete().String(); got != want {
			return fmt.Errorf("the table is not empty:\n%s", diff(want, got))
		}
		if want, got := empty.Sizes(), s.Sizes(); !maps.Equal(want, got) {
			return fmt.Errorf("the state is not empty: %v", got)
		}
		return nil
	})
}
