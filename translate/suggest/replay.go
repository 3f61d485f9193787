// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
)

// ask asks the oracle about a connection between two ends in a cluster of only these, with some of its policies: each
// pod has the address that it was seen with, whoever has it now.
func ask(of *policy.Cluster, policies []*networkingv1.NetworkPolicy, q policy.Flow, ends ...end) policy.Answer {
	c := *of
	c.Pods, c.Policies, c.Sandboxes, c.Guard = make([]policy.Pod, 0, len(ends)), policies, nil, nil
	q.Src, q.Dst = ends[0].address, ends[1].address
	for _, e := range ends {
		if e.pod != nil {
			p := *e.pod
			p.IPs, p.Terminating = []netip.Addr{e.address}, false
			c.Pods = append(c.Pods, p)
		}
	}
	return c.Explain(q)
}

// decision returns one direction of an answer.
func decision(a policy.Answer, d policy.Direction) policy.Decision {
	if d == policy.Egress {
		return a.Egress
	}
	return a.Ingress
}

// deniedBy names what denies.
func deniedBy(is policy.Decision) string {
	for _, tier := range []*policy.ClusterVerdict{is.Admin, is.Baseline} {
		if tier != nil && tier.Action == v1alpha2.ClusterNetworkPolicyRuleActionDeny {
			return tier.String()
		}
	}
	var names []string
	for _, name := range is.Policies {
		names = append(names, name.String())
	}
	return strings.Join(names, ", ")
}

// outdated says whether the cluster's policies deny a connection that was allowed when seen. They are newer, so nothing
// is suggested against them.
func (s *suggester) outdated(o observed) bool {
	is := s.now.about(o.Question(), o.from, o.to)
	for _, d := range policy.Directions() {
		if is[d].denied != "" {
			s.Outdated = append(s.Outdated, Lost{o.Flow, d.String() + " denied by " + is[d].denied})
			return true
		}
	}
	return false
}

// isolated says whether policies of the cluster isolate all pods of a workload in a direction.
func (s *suggester) isolated(w *workload, d policy.Direction) bool {
	key := subject{w, d}
	if is, known := s.isolates[key]; known {
		return is
	}
	s.isolates[key] = !slices.ContainsFunc(w.pods, func(p *policy.Pod) bool {
		return !slices.ContainsFunc(s.now.selecting(p), func(np *networkingv1.NetworkPolicy) bool {
			return policy.Isolates(np, d)
		})
	})
	return s.isolates[key]
}

// covered says whether the cluster's policies isolate the pods of a workload in a direction and allow a connection, and
// whether that is so for all pods of the two workloads.
func (s *suggester) covered(o observed, d policy.Direction) bool {
	denied := func(from, to end) bool { return !s.now.about(o.Question(), from, to)[d].met }
	return !slices.ContainsFunc(s.sorts(o.from, o.to.address), func(e end) bool { return denied(e, o.to) }) &&
		!slices.ContainsFunc(s.sorts(o.to, o.from.address), func(e end) bool { return denied(o.from, e) })
}

// sorts returns an end for each sort of pod of an end's workload, or the end itself. Pods without an address of the
// family, or with the peer's, use the end's.
func (s *suggester) sorts(e end, peer netip.Addr) []end {
	if e.workload == nil {
		return []end{e}
	}
	key := family{e.workload, peer.Is4()}
	all, known := s.sorted[key]
	if !known {
		found := make(map[[2]int]bool)
		for _, p := range e.workload.pods {
			sort := end{pod: p, workload: e.workload}
			for _, a := range p.IPs {
				if a.Is4() == key.four {
					sort.address = a
				}
			}
			if id := [2]int{s.now.kind(p), s.now.between(sort.address)}; !found[id] {
				found[id], all = true, append(all, sort)
			}
		}
		s.sorted[key] = all
	}
	all = slices.Clone(all)
	for i := range all {
		if a := all[i].address; !a.IsValid() || a == peer || all[i].pod == e.pod {
			all[i].address = e.address
		}
	}
	return all
}

// family returns the pods of a workload with their addresses of a family.
type family struct {
	workload *workload
	four     bool
}

// replay asks the oracle about every observed connection under the suggested policies. Rules are additive, and the
// tiers say the same as before, when the connection was allowed. So it suffices that one peer and one port of the
// connection's rule allow it alone, or that the existing policies do; otherwise all policies are asked together.
func (s *suggester) replay() {
	for _, o := range s.seen {
		before := s.now.about(o.Question(), o.from, o.to)
		for _, d := range policy.Directions() {
			if own, _ := o.of(d); own.in(s.Namespace) && !s.ruled(o, d) && !before[d].met && !s.allowed(o, d) {
				s.Lost = append(s.Lost, Lost{o.Flow, "no rule can express it"})
				break
			}
		}
	}
}

// ruled says whether the rule that was written for a direction of a connection allows it.
func (s *suggester) ruled(o observed, d policy.Direction) bool {
	own, _ := o.of(d)
	np := s.written[subject{own.workload, d}].part(s.wish(o, d))
	if np == nil {
		return false
	}
	c := *s.Before
	c.ClusterPolicies, c.Modes = nil, nil
	is := decision(ask(&c, []*networkingv1.NetworkPolicy{np}, o.Question(), o.from, o.to), d)
	return is.Isolated && is.Allowed
}

// allowed says whether all policies together allow a direction of a connection.
func (s *suggester) allowed(o observed, d policy.Direction) bool {
	var all []*networkingv1.NetworkPolicy
	for _, np := range s.After.Policies {
		for _, e := range [...]end{o.from, o.to} {
			if e.pod != nil && e.pod.Namespace == np.Namespace && policy.Selects(np, e.pod.Labels) {
				all = append(all, np)
				break
			}
		}
	}
	return decision(ask(s.After, all, o.Question(), o.from, o.to), d).Allowed
}
