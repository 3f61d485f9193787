// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
)

// ask asks the oracle about a connection between two ends, as if they were all that is in the cluster: each pod then
// has the address that it was seen with, whoever has it now.
func (s *suggester) ask(q policy.Flow, from, to end) policy.Answer {
	c := *s.Before
	c.Pods, c.Policies, c.Sandboxes, c.Guard = nil, nil, nil, nil
	q.Src, q.Dst = from.address, to.address
	for _, e := range []end{from, to} {
		if e.pod == nil {
			continue
		}
		p := *e.pod
		p.IPs, p.Terminating = []netip.Addr{e.address}, false
		c.Pods = append(c.Pods, p)
		for _, np := range s.selecting(&p) {
			if !slices.Contains(c.Policies, np) {
				c.Policies = append(c.Policies, np)
			}
		}
	}
	return c.Explain(q)
}

// selecting returns the policies that select a pod.
func (s *suggester) selecting(p *policy.Pod) []*networkingv1.NetworkPolicy {
	key := fmt.Sprint(p.Namespace, p.Labels)
	all, known := s.selects[key]
	if !known {
		for _, np := range s.policies[p.Namespace] {
			if policy.Selects(np, p.Labels) {
				all = append(all, np)
			}
		}
		s.selects[key] = all
	}
	return all
}

// decision returns one direction of an answer.
func decision(a policy.Answer, d policy.Direction) policy.Decision {
	if d == policy.Egress {
		return a.Egress
	}
	return a.Ingress
}

// enforced is decision, were the policies enforced that are only audited: what is suggested goes with them.
func enforced(a policy.Answer, d policy.Direction) policy.Decision {
	is := decision(a, d)
	if is.Audit != nil {
		return *is.Audit
	}
	return is
}

// isolated says whether policies isolate all pods of a workload in a direction.
func (s *suggester) isolated(w *workload, d policy.Direction) bool {
	if is, known := s.isolates[subject{w, d}]; known {
		return is
	}
	peer := end{address: netip.IPv4Unspecified()}
	is := !slices.ContainsFunc(w.pods, func(p *policy.Pod) bool {
		ends := [2]end{{address: peer.address.Next(), pod: p}, peer}
		if d == policy.Ingress {
			slices.Reverse(ends[:])
		}
		return !enforced(s.ask(policy.Flow{Proto: policy.TCP, DstPort: 1}, ends[0], ends[1]), d).Isolated
	})
	s.isolates[subject{w, d}] = is
	return is
}

// covered says whether policies of the cluster allow a connection in a direction, and whether they do so for all pods
// of the two workloads.
func (s *suggester) covered(o observed, d policy.Direction) bool {
	own, peer := o.of(d)
	allows := func(own, peer end) bool { return s.allowed(o, d, own, peer) }
	return !slices.ContainsFunc(own.all(peer.address), func(e end) bool { return !allows(e, peer) }) &&
		!slices.ContainsFunc(peer.all(own.address), func(e end) bool { return !allows(own, e) })
}

// allowed says whether policies of the cluster isolate an end in a direction, and allow a connection with a peer.
func (s *suggester) allowed(o observed, d policy.Direction, own, peer end) bool {
	if d == policy.Ingress {
		own, peer = peer, own
	}
	is := enforced(s.ask(o.Question(), own, peer), d)
	return is.Isolated && is.Allowed
}

// all returns an end for each pod of its workload, or itself. A pod without an address of the family, or with the
// peer's, stands in with that of e.
func (e end) all(peer netip.Addr) []end {
	if e.workload == nil {
		return []end{e}
	}
	var all []end
	for _, p := range e.workload.pods {
		at := e.address
		for _, a := range p.IPs {
			if p != e.pod && a.Is4() == peer.Is4() && a != peer {
				at = a
			}
		}
		all = append(all, end{address: at, pod: p, workload: e.workload})
	}
	return all
}

// outdated says whether policies of the cluster deny a connection that was allowed when it was seen. They are newer
// than what was seen, so nothing is suggested against them.
func (s *suggester) outdated(o observed) bool {
	a := s.ask(o.Question(), o.from, o.to)
	for _, d := range policy.Directions() {
		if is := decision(a, d); !is.Allowed {
			var names []string
			for _, name := range is.Policies {
				names = append(names, name.String())
			}
			for _, tier := range []*policy.ClusterVerdict{is.Admin, is.Baseline} {
				if tier != nil && tier.Action == v1alpha2.ClusterNetworkPolicyRuleActionDeny {
					names = []string{tier.String()}
				}
			}
			reason := fmt.Sprintf("%s denied by %s", d, strings.Join(names, ", "))
			s.Outdated = append(s.Outdated, Lost{o.Flow, reason})
			return true
		}
	}
	return false
}

// replay asks about every connection that was seen, with the policies that are suggested.
func (s *suggester) replay() {
	for _, o := range s.seen {
		for _, d := range policy.Directions() {
			if own, _ := o.of(d); own.in(s.Namespace) && !enforced(s.ask(o.Question(), o.from, o.to), d).Allowed {
				s.Lost = append(s.Lost, Lost{o.Flow, "no rule can express it"})
				break
			}
		}
	}
}
