// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// Answer answers whether the cluster's policies allow a flow. A flow is allowed when both directions allow it.
type Answer struct {
	Flow    Flow
	Allowed bool
	Egress  Decision // of the source
	Ingress Decision // of the destination
}

// Decision is the answer for one direction of a flow.
type Decision struct {
	Direction Direction
	// at this end of the flow; nil when the address belongs to no pod that policy can select
	Pod       *Pod
	Isolated  bool                   // a policy selects Pod for Direction
	Policies  []types.NamespacedName // those that isolate Pod for Direction, sorted
	Allowed   bool
	AllowedBy *RuleRef // nil unless Isolated and a rule allows the flow
	Exempt    string   // why no policy could block the flow in this direction, or ""
	Unknown   bool     // the guard drops the flow: no known pod has the address at this end
	OverLimit *RuleRef // a rule that would allow the flow if it were not over a limit; nil if another does

	// What the tiers before and after NetworkPolicy say about the flow; nil if no rule of a tier matches it, or the
	// tier does not apply, as Baseline does not if a NetworkPolicy isolates the pod.
	Admin, Baseline *ClusterVerdict

	// Quarantine is why the pod's node allows nothing that the policies allow, or "".
	Quarantine string

	// Unenforced is why the policies are not in force there, so that everything is allowed, or "".
	Unenforced string

	// Audit is the answer if all policies were enforced; nil if none that applies to Pod is audited.
	Audit *Decision

	// AuditedTiers are the audited ClusterNetworkPolicies among those, sorted.
	AuditedTiers []string

	// Unaudited is why the pod's node does not audit, or "".
	Unaudited string

	baselineAside bool // the rules of tier Baseline are set aside
}

// RuleRef names a rule of a policy.
type RuleRef struct {
	Policy    types.NamespacedName
	Direction Direction
	Index     int // in spec.ingress or spec.egress
}

// String returns the rule as "namespace/policy spec.ingress[0]".
func (r RuleRef) String() string {
	return fmt.Sprintf("%s spec.%s[%d]", r.Policy, r.Direction, r.Index)
}

// Explain answers whether the policies allow a flow, and why, by walking the text of the policies. It is the second
// opinion against which the compiled rules are checked, so it shares nothing with them: no index, no rules, no
// canonical form.
func (c *Cluster) Explain(f Flow) Answer {
	ends := c.ends(f)
	e := Answer{Flow: f, Egress: c.decide(Egress, ends), Ingress: c.decide(Ingress, ends)}
	e.Allowed = e.Egress.Allowed && e.Ingress.Allowed
	return e
}

// ends are a flow and the pods that own its addresses; nil if none does.
type ends struct {
	flow     Flow
	src, dst *Pod
}

// ends returns the ends of a flow.
func (c *Cluster) ends(f Flow) ends { return ends{flow: f, src: c.Owner(f.Src), dst: c.Owner(f.Dst)} }

// of returns the pod that policies of a direction select, and the peer with the peer's address.
func (e ends) of(d Direction) (pod, peer *Pod, peerAddr netip.Addr) {
	if d == Egress {
		return e.src, e.dst, e.flow.Dst
	}
	return e.dst, e.src, e.flow.Src
}

// own returns the address of the pod that policies of a direction select.
func (e ends) own(d Direction) netip.Addr {
	if d == Egress {
		return e.flow.Src
	}
	return e.flow.Dst
}

// Owner returns the pod that owns an address, or nil. Of several, one that is not terminating does, then the newest,
// then one that runs, then the first by name.
func (c *Cluster) Owner(a netip.Addr) *Pod {
	if p := c.sandboxAt(a, false); p != nil {
		return p
	}
	var owner *Pod
	for i := range c.Pods {
		p := &c.Pods[i]
		if !p.HostNetwork && p.claims(a) && !c.sandboxed(p) && (owner == nil || p.before(owner)) {
			owner = p
		}
	}
	if owner == nil {
		return c.sandboxAt(a, true)
	}
	return owner
}

// sandboxAt returns the pod of the newest live or stale sandbox with an address, as the API has it if it does, or nil.
func (c *Cluster) sandboxAt(a netip.Addr, stale bool) *Pod { //nolint:revive // stale is a fact, not a mode
	var newest *Sandbox
	for i := range c.Sandboxes {
		if b := &c.Sandboxes[i]; b.Stale == stale && slices.Contains(b.IPs, a) &&
			(newest == nil || b.Serial > newest.Serial) {
			newest = b
		}
	}
	if newest == nil {
		return nil
	}
	for _, p := range c.Pods {
		if p.NamespacedName == newest.NamespacedName && p.Node == newest.Node {
			p.IPs, p.HostNetwork = newest.IPs, false
			return &p
		}
	}
	return &Pod{NamespacedName: newest.NamespacedName, Node: newest.Node, Labels: newest.Labels,
		IPs: newest.IPs, Running: true}
}

// sandboxed says whether a live sandbox decides the addresses of a pod.
func (c *Cluster) sandboxed(p *Pod) bool {
	return slices.ContainsFunc(c.Sandboxes, func(b Sandbox) bool {
		return !b.Stale && b.NamespacedName == p.NamespacedName && b.Node == p.Node
	})
}

// claims says whether an address is among the pod's.
func (p *Pod) claims(a netip.Addr) bool {
	return slices.Contains(p.IPs, a)
}

// before says whether p, rather than q, owns an address that both claim.
func (p *Pod) before(q *Pod) bool {
	switch {
	case p.Terminating != q.Terminating:
		return q.Terminating
	case !p.Created.Equal(q.Created):
		return p.Created.After(q.Created)
	case p.Running != q.Running:
		return p.Running
	}
	return p.String() < q.String()
}

// decide answers for one direction, by the enforced policies, and by all.
func (c *Cluster) decide(d Direction, e ends) Decision {
	pod, _, _ := e.of(d)
	answer := c.decideBy(d, e)
	answer.AuditedTiers = c.auditedTiers(d, pod)
	if answer.Unknown || len(answer.AuditedTiers) == 0 && len(c.isolating(d, pod)) == len(c.selecting(d, pod)) {
		return answer
	}
	if q := c.quarantine(PodQuarantine{Direction: d, Audit: true}, e); q != nil && q.Address.IsValid() {
		answer.Unaudited = q.Reason
		return answer
	}
	if audit := c.AllEnforced().decideBy(d, e); audit.Unaudited != "" {
		answer.Unaudited = audit.Unaudited
	} else {
		answer.Audit = &audit
	}
	return answer
}

// decideBy answers for one direction, by the enforced policies.
func (c *Cluster) decideBy(d Direction, e ends) Decision {
	pod, _, _ := e.of(d)
	isolating := c.isolating(d, pod)
	answer := Decision{Direction: d, Pod: pod}
	if answer.Unknown = c.unknown(d, e.flow, pod); answer.Unknown {
		return answer
	}
	for _, np := range isolating {
		answer.Policies = append(answer.Policies, nameOf(np))
	}
	answer.Isolated = len(isolating) > 0
	q := c.quarantine(PodQuarantine{Direction: d}, e)
	if q != nil && c.all && !q.Address.IsValid() { // what audits has an isolation of its own
		q = nil
	}
	if q != nil && q.Open {
		answer.Allowed, answer.Unenforced = true, q.Reason
		return answer
	}
	if q != nil && e.flow.Src == e.flow.Dst && !isDiscovery(e.flow) && c.selfless(e) {
		answer.Quarantine = q.Reason
		return answer
	}
	answer.Exempt = c.exempt(d, e)
	if answer.Exempt != "" {
		answer.Allowed = true
		return answer
	}
	if q != nil && q.Address.IsValid() {
		answer.Quarantine = q.Reason
		return answer
	}
	if reason := c.tierQuarantine(v1alpha2.AdminTier, d, e); reason != "" {
		return answer.setAside(reason, c.all)
	}
	if answer.Admin = c.ask(v1alpha2.AdminTier, d, e); answer.Admin.decides() {
		answer.Allowed = answer.Admin.accepts()
		return answer
	}
	unaudited := c.quarantine(PodQuarantine{Direction: d, Audit: true}, e)
	switch {
	case !answer.Isolated && c.tierQuarantine(v1alpha2.BaselineTier, d, e) != "":
		answer.baselineAside = true
		return answer.setAside(c.tierQuarantine(v1alpha2.BaselineTier, d, e), c.all)
	case !answer.Isolated:
		answer.Baseline = c.ask(v1alpha2.BaselineTier, d, e)
		answer.Allowed = !answer.Baseline.decides() || answer.Baseline.accepts()
	case c.all && unaudited != nil:
		answer.Unaudited = unaudited.Reason
	case e.flow.Src == e.flow.Dst:
		answer.Allowed, answer.Exempt = true, toItself
	case q != nil:
		answer.Quarantine = q.Reason
	default:
		c.askPolicies(isolating, &answer, e)
	}
	return answer
}

// setAside returns the decision if the next stage is set aside.
func (d Decision) setAside(reason string, audit bool) Decision { //nolint:revive // a fact
	if audit {
		d.Unaudited = reason
	} else {
		d.Quarantine = reason
	}
	return d
}

// askPolicies notes which rule of the isolating policies allows a flow, if any.
func (c *Cluster) askPolicies(isolating []*networkingv1.NetworkPolicy, answer *Decision, e ends) {
	// "Traffic is allowed to a pod if ... the traffic matches at least one ingress rule across all of the NetworkPolicy
	// objects whose podSelector matches the pod": policies only ever add.
	for _, np := range isolating {
		for _, rule := range Rules(np, answer.Direction) {
			if _, _, fits := c.fit(rule, e); !fits || rule.Fault() != "" {
				continue
			}
			if c.overLimit(answer.Pod, rule.RuleRef) {
				answer.OverLimit = &rule.RuleRef
			} else {
				answer.Allowed, answer.AllowedBy, answer.OverLimit = true, &rule.RuleRef, nil
				return
			}
		}
	}
}

// overLimit says whether a rule of a pod's policies is over a limit.
func (c *Cluster) overLimit(pod *Pod, r RuleRef) bool {
	for _, excess := range c.OverLimit {
		if excess.Pod == pod.NamespacedName && excess.Direction == r.Direction && excess.Audit == c.all {
			return slices.ContainsFunc(excess.Rules, func(e Excess) bool { return e.RuleRef == r })
		}
	}
	return false
}

// toItself is why NetworkPolicies never block a pod's traffic to itself. Traffic to its own address never leaves it, so
// ClusterNetworkPolicies do not apply either; they do to what comes back through a Service.
const toItself = "a pod cannot block access to itself"

// exempt says why no policy can block the flow in this direction, or "".
func (c *Cluster) exempt(d Direction, e ends) string {
	f := e.flow
	pod, _, _ := e.of(d)
	hostPods := c.hostPods(e.own(d))
	host := fmt.Sprintf("pods with hostNetwork are never isolated (%s)", hostPods)
	switch {
	case f.Src == f.Dst && !f.Service:
		return toItself
	case f.ToOwnPod && d == Ingress:
		return "a node's own traffic to its pods is always allowed"
	case f.ToNode && d == Ingress && hostPods != "":
		return host
	case f.ToNode && d == Ingress:
		return "it is the node's own address, and nodes are never isolated"
	case f.ToNode && c.PodToNode == AllowPodToNode:
		return "the node does not filter what its own pods send to it (--pod-to-node=allow)"
	case isDiscovery(f):
		return "IPv6 neighbour discovery is always allowed"
	case pod != nil:
		return ""
	case hostPods != "":
		return host
	}
	return "no pod has this address"
}

// hostPods names the first few pods with hostNetwork that have an address, or returns "".
func (c *Cluster) hostPods(a netip.Addr) string {
	var names []string
	for i := range c.Pods {
		if p := &c.Pods[i]; p.HostNetwork && p.claims(a) {
			names = append(names, p.String())
		}
	}
	slices.Sort(names)
	return few(names, 3)
}

// isDiscovery says whether the flow is IPv6 neighbour discovery.
func isDiscovery(f Flow) bool {
	// RFC 4861: router solicitation to redirect
	return f.Src.Is6() && f.Proto == ICMPv6 && f.ICMPType >= 133 && f.ICMPType <= 137
}

// isolating returns the enforced policies that select the pod for a direction, sorted by name.
func (c *Cluster) isolating(d Direction, pod *Pod) []*networkingv1.NetworkPolicy {
	return slices.DeleteFunc(c.selecting(d, pod), c.Audited)
}

// selecting is isolating including audited policies.
func (c *Cluster) selecting(d Direction, pod *Pod) []*networkingv1.NetworkPolicy {
	if pod == nil {
		return nil
	}
	var all []*networkingv1.NetworkPolicy
	for _, np := range c.Policies {
		if np.Namespace == pod.Namespace && Isolates(np, d) && Selects(np, pod.Labels) {
			all = append(all, np)
		}
	}
	slices.SortFunc(all, func(a, b *networkingv1.NetworkPolicy) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Isolates says whether a policy isolates the pods that it selects in a direction. "If this field is not specified, it
// will default based on the existence of ingress or egress rules; policies that contain an egress section are assumed
// to affect egress, and all policies (whether or not they contain an ingress section) are assumed to affect ingress."
// The API server treats an empty egress section as absent.
func Isolates(np *networkingv1.NetworkPolicy, d Direction) bool {
	listed := np.Spec.PolicyTypes
	if len(listed) == 0 {
		return d == Ingress || len(np.Spec.Egress) > 0
	}
	for _, t := range listed {
		switch t {
		case networkingv1.PolicyTypeIngress:
			if d == Ingress {
				return true
			}
		case networkingv1.PolicyTypeEgress:
			if d == Egress {
				return true
			}
		default: // what is unknown may mean either
			return true
		}
	}
	return false
}

func nameOf(np *networkingv1.NetworkPolicy) types.NamespacedName {
	return types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
}
