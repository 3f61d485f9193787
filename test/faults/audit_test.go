// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/test/harness/train"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/folder"
)

// audited returns a policy that is only audited.
func audited(np *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	np = np.DeepCopy()
	np.Annotations = map[string]string{policy.ModeAnnotation: policy.Audit}
	return np
}

// guard returns a ClusterNetworkPolicy of a tier, with annotations, that permits what the train needs.
func guard(t *testing.T, tier, annotations string) policy.ClusterPolicy {
	t.Helper()
	p, err := policy.ReadClusterPolicy(fmt.Appendf(nil, `{"metadata": {"name": "guard", "annotations": {%s}}, "spec": {
		"tier": %q, "priority": 1,
		"subject": {"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "web"}}}},
		"ingress": [{"action": "Accept", "protocols": [{"tcp": {"destinationPort": {"number": 80}}},
		{"udp": {"destinationPort": {"number": 53}}}], "from": [{"pods": {"namespaceSelector": {},
		"podSelector": {"matchLabels": {"app": "client"}}}}]},
		{"action": "Deny", "from": [{"namespaces": {}}]}],
		"egress": [{"action": "Accept", "protocols": [{"tcp": {"destinationPort": {"number": 443}}}],
		"to": [{"pods": {"namespaceSelector": {}, "podSelector": {"matchLabels": {"app": "client"}}}}]},
		{"action": "Deny", "to": [{"namespaces": {}}]}]}}`, annotations, tier))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestAuditToEnforce: an audited policy lets everything pass and counts what it would deny, in both directions and
// families. Without the annotation it is in force after one transaction, from the next packet on.
func TestAuditToEnforce(t *testing.T) {
	cluster, errs := folder.Read("world", strings.NewReader(train.World+"---"+train.Permission))
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	permission := cluster.Policies[0]
	cluster.Policies = nil
	t.Run("NetworkPolicy", func(t *testing.T) {
		auditToEnforce(t, cluster, func(s *translate.State, audit bool) {
			np := permission
			if audit {
				np = audited(permission)
			}
			if err := s.SetPolicy(np); err != nil {
				t.Fatal(err)
			}
		})
	})
	for _, tier := range []string{"Admin", "Baseline"} {
		t.Run(tier, func(t *testing.T) {
			auditToEnforce(t, cluster, func(s *translate.State, audit bool) {
				annotations := ""
				if audit {
					annotations = `"netpold.io/mode": "audit"`
				}
				s.SetClusterPolicy(guard(t, tier, annotations))
			})
		})
	}
}

// auditToEnforce sets a policy to audited and to enforced, in turn.
func auditToEnforce(t *testing.T, c *policy.Cluster, set func(s *translate.State, audit bool)) {
	p := prober.New(t)
	conn := connect(t)
	s := translate.New(train.Node, translate.Options{LogGroup: 86})
	s.Add(c)
	commit := func(audit bool) {
		set(s, audit)
		tx := s.Complete().Take()
		if _, err := conn.Apply(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		if s.Changed() {
			t.Error("it took more than one transaction")
		}
	}
	r := train.New(t, p)
	for range 20 {
		commit(true)
		r.Count = train.Count{}
		before := audits(t, conn)
		r.Step()
		if r.Dropped > 0 || r.Leaked == 0 {
			t.Fatalf("audited: %d of %d packets dropped, %d passed that would be denied", r.Dropped, r.Probes,
				r.Leaked)
		}
		after := audits(t, conn)
		for set, packets := range after {
			if packets == before[set] {
				t.Errorf("%s counts nothing", set)
			}
		}
		if len(after) != 4 { // one for each direction and family
			t.Errorf("counts of %d sets: %v", len(after), after)
		}
		commit(false)
		r.Count = train.Count{}
		if r.Step(); r.Wrong() > 0 {
			t.Fatalf("enforced: %d packets leaked and %d are dropped, of %d", r.Leaked, r.Dropped, r.Probes)
		}
		for left := s.Complete().Retired(); left != 0; left = s.Complete().Retired() {
			s.Complete().Reap(left)
			if _, err := conn.Apply(t.Context(), s.Complete().Take()); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// audits returns the counts of the sets of audited pods.
func audits(t *testing.T, conn *kernel.Conn) map[string]uint64 {
	t.Helper()
	counts := make(map[string]uint64)
	for _, set := range frame.CountingSets() {
		if !set.Audit {
			continue
		}
		elements, err := conn.Elements(t.Context(), frame.TableName, set.Name, set.Type)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range elements {
			counts[set.Name] += e.Packets
		}
	}
	return counts
}
