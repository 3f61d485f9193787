// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/test/harness/cases"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/aside"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// TestQuarantineAndBack: with some isolations and addresses set aside, the rest of the table allows what it did before,
// their pods are allowed nothing (or, if only audited, are not audited), and nothing of theirs is in the table; once
// released, table and state are as before. A changed policy releases its isolations.
func TestQuarantineAndBack(t *testing.T) {
	quarantined := 0
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		c := clusterOf(random.NewGenerator(r, random.SizeOf(seed)), seed)
		s := build(c, node, unlimited(seed))
		c = guard(c, node, unlimited(seed))
		want, sizes := s.Complete().String(), s.Sizes()
		keys := s.Ownership().All()
		r.Shuffle(len(keys), func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
		keys = keys[:(len(keys)+1)/2]
		addresses := s.Ownership().Addresses()
		r.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
		keys = append(keys, addresses[:len(addresses)/4]...)
		for _, key := range keys {
			s.Quarantine(aside.Quarantine{Key: key, Reason: "a test"})
		}
		flows := random.NewFlows(r, c, nil)
		n, err := quarantineHolds(c, s, flows)
		if err != nil {
			return err
		}
		quarantined += n
		named := 0
		for trouble := range s.Troubles() {
			if trouble.Kind == book.Quarantined || trouble.Kind == book.Unaudited {
				named++
			}
		}
		if named != len(keys) || slices.ContainsFunc(keys, func(k string) bool {
			return slices.Contains(append(s.Ownership().All(), s.Ownership().Addresses()...), k)
		}) {
			return fmt.Errorf("%d quarantines are named, want %d", named, len(keys))
		}
		s.Release(keys...)
		s.Complete()
		s.Absolve()
		if got := s.Complete().String(); got != want || !maps.Equal(s.Sizes(), sizes) {
			return fmt.Errorf("released, it is another table:\n%s\nor another state: %v, was %v", diff(want, got),
				s.Sizes(), sizes)
		}

		for _, key := range keys {
			s.Quarantine(aside.Quarantine{Key: key, Reason: "a test"})
		}
		s.Complete()
		for _, np := range c.Policies {
			changed := np.DeepCopy()
			changed.Spec.PolicyTypes = append(changed.Spec.PolicyTypes, "Ingress", "Egress")
			_ = s.SetPolicy(changed)
			_ = s.SetPolicy(np)
		}
		for _, p := range c.ClusterPolicies {
			changed := policy.ClusterPolicy{ClusterNetworkPolicy: p.DeepCopy(), Unread: p.Unread}
			changed.Spec.Priority++
			s.SetClusterPolicy(changed)
			s.SetClusterPolicy(p)
		}
		s.Complete()
		s.Absolve()
		if got := s.Complete().String(); got != want || !maps.Equal(s.Sizes(), sizes) {
			return fmt.Errorf("with changed policies, it is another table:\n%s\nor another state: %v, was %v",
				diff(want, got), s.Sizes(), sizes)
		}
		return nil
	})
	if quarantined < 100 {
		t.Errorf("only %d flows met a quarantine", quarantined)
	}
}

// quarantineHolds says whether the table agrees with the state's excerpts, and returns how many flows met a quarantine.
func quarantineHolds(c *policy.Cluster, s *translate.State, flows *random.Flows) (int, error) {
	quarantined := 0
	for range 100 {
		f := flows.Next()
		trail, err := trace.Follow(s.Complete(), frame.PacketOf(f))
		v := trail.Verdict
		if err != nil {
			return 0, err
		}
		now, says := s.Excerpt(f).Explain(f), c.Explain(f)
		expected := true
		for _, pair := range [][2]policy.Decision{{says.Egress, now.Egress}, {says.Ingress, now.Ingress}} {
			was, is := pair[0], pair[1]
			expected = expected && !was.Unknown
			if was.Pod == nil || was.Pod.Node != node {
				continue
			}
			if is.Quarantine != "" {
				quarantined++
			}
			if is.Quarantine == "" && is.Allowed != was.Allowed || is.Allowed && !was.Allowed {
				return 0, fmt.Errorf("%s: the policies say %+v, the excerpt %+v", f, was, is)
			}
			if would := cases.WouldDeny(trail)[is.Direction]; would != (expected && is.WouldDeny()) {
				return 0, fmt.Errorf("%s: audited policies would deny it: %+v, the rules: %t", f, is, would)
			}
			expected = expected && is.Allowed
		}
		if expected != (v.Kind == nft.Accept) {
			return 0, fmt.Errorf("%s (service %t): expected %t, the rules say %s", f, f.Service, expected, v)
		}
	}
	return quarantined, nil
}
