// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Near is the rule that comes nearest to allowing a flow, and the first part of it that does not fit.
type Near struct {
	RuleRef
	Reason string // in words for an operator
}

// Nearest returns the rule that comes nearest to allowing a denied flow in one direction; one that names the peer is
// nearer than one that names the port. It is nil if the isolating policies have no rules.
func (c *Cluster) Nearest(f Flow, d Direction) *Near {
	e := c.ends(f)
	pod, _, _ := e.of(d)
	var nearest *Near
	best := -1
	for _, np := range c.isolating(d, pod) {
		for _, r := range Rules(np, d) {
			if rank, reason := c.misfit(r, e); rank > best {
				best, nearest = rank, &Near{r.RuleRef, reason}
			}
		}
	}
	return nearest
}

// misfit says how near a rule comes to allowing a flow, and what does not fit.
func (c *Cluster) misfit(r Rule, e ends) (rank int, reason string) {
	peers, ports, both := c.fit(r, e)
	_, peer, addr := e.of(r.Direction)
	fault := r.Fault()
	switch {
	case fault != "" && peers:
		return 3, "the rule is not valid and allows nothing: " + fault
	case peers && !ports:
		return 3, "it allows " + portsText(r.Ports) + ", not " + serviceOf(e.flow)
	case peers && !both:
		return 3, "the name of a port is a pod's, and " + addr.String() + " is let in by an ipBlock"
	case fault != "":
		return 1, "the rule is not valid and allows nothing: " + fault
	case ports:
		return 2, "its peers do not include " + c.peerText(peer, addr)
	}
	return 0, "it allows neither " + serviceOf(e.flow) + " nor this peer"
}

// Describe explains the decision about a flow, in lines for an operator.
func (c *Cluster) Describe(e Answer) string {
	verdict := "denied"
	if e.Allowed {
		verdict = "allowed"
	}
	return fmt.Sprintf("%s -> %s %s: %s\n  %s\n  %s\n", end(e.Egress.Pod, e.Flow.Src), end(e.Ingress.Pod, e.Flow.Dst),
		serviceOf(e.Flow), verdict,
		c.describe(e.Flow, e.Egress, e.Flow.Src), c.describe(e.Flow, e.Ingress, e.Flow.Dst))
}

// describe returns one direction's decision on a line, and what audited policies would change on another; a is the
// address at its end.
func (c *Cluster) describe(f Flow, d Decision, a netip.Addr) string {
	text := fmt.Sprintf("%s of %s: %s", d.Direction, end(d.Pod, a), c.reason(f, d, c.Nearest(f, d.Direction)))
	if d.Unaudited != "" {
		return text + "\n    audited: not in force: " + d.Unaudited
	}
	if d.Audit == nil || d.Audit.Exempt != "" {
		return text
	}
	audited := slices.DeleteFunc(slices.Clone(d.Audit.Policies), func(name types.NamespacedName) bool {
		return slices.Contains(d.Policies, name)
	})
	names := d.AuditedTiers
	if len(audited) > 0 {
		names = append([]string{list(audited)}, names...)
	}
	all := c.AllEnforced()
	return fmt.Sprintf("%s\n    audited: with %s enforced, it would be %s", text, strings.Join(names, ", "),
		all.reason(f, *d.Audit, all.Nearest(f, d.Direction)))
}

// reason returns a decision with its reason; near is the rule that comes nearest, or nil.
func (c *Cluster) reason(f Flow, d Decision, near *Near) string {
	isolated := "isolated by " + list(d.Policies)
	switch {
	case d.Unknown:
		return "denied: unknown pod: " + c.Guard.unknownText(ends{flow: f}.own(d.Direction))
	case d.Exempt != "":
		return "allowed: " + d.Exempt
	case d.Quarantine != "":
		return "denied: " + isolated + "; quarantined, nothing is allowed: " + d.Quarantine
	case d.Unenforced != "":
		return "allowed: " + isolated + ", which " + one(d.Policies, "is", "are") + " not in force: " + d.Unenforced
	case d.Admin.decides():
		return c.verdictText(f, d.Admin, "")
	case d.Baseline.decides():
		return c.verdictText(f, d.Baseline, d.passed()+"no NetworkPolicy isolates it; ")
	case !d.Isolated:
		return "allowed: " + d.passed() + "no policy isolates it for " + d.Direction.String()
	}
	isolated = d.passed() + isolated
	switch {
	case d.AllowedBy != nil:
		return "allowed: " + isolated + "; allowed by " + d.AllowedBy.String()
	case d.OverLimit != nil:
		return fmt.Sprintf("denied: %s; %s would allow it, but is over a limit", isolated, d.OverLimit)
	case near == nil:
		return "denied: " + isolated + ", which " + one(d.Policies, "allows", "allow") + " nothing"
	}
	return fmt.Sprintf("denied: %s; no rule allows it (nearest: %s: %s)", isolated, near.RuleRef, near.Reason)
}

// end names one end of a flow.
func end(p *Pod, a netip.Addr) string {
	if p == nil {
		return a.String()
	}
	return fmt.Sprintf("%s (%s)", p.NamespacedName, a)
}

// few joins the first names, and says how many more there are.
func few(names []string, most int) string {
	if more := len(names) - most; more > 0 {
		names = append(names[:most:most], fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// maxPorts is how many ports of a rule are named for an operator.
const maxPorts = 4

// portsText names the first few ports for an operator.
func portsText(ports []networkingv1.NetworkPolicyPort) string {
	var names []string
	for _, p := range ports {
		proto := "TCP"
		if p.Protocol != nil {
			proto = string(*p.Protocol)
		}
		switch {
		case p.Port == nil:
			names = append(names, "every "+proto+" port")
		case p.EndPort != nil:
			names = append(names, fmt.Sprintf("%s %s-%d", proto, p.Port, *p.EndPort))
		default:
			names = append(names, proto+" "+p.Port.String())
		}
	}
	return few(names, maxPorts)
}

// serviceOf names what a flow connects to, as portsText does.
func serviceOf(f Flow) string {
	name := protocolName(f.Proto)
	if f.Proto == ICMP || f.Proto == ICMPv6 {
		return name
	}
	return fmt.Sprintf("%s %d", name, f.DstPort)
}

// peerText names a peer, with what selectors look at.
func (c *Cluster) peerText(p *Pod, a netip.Addr) string {
	names := c.hostPods(a)
	switch {
	case p == nil && names != "":
		return fmt.Sprintf("%s, as selectors do not match pods with hostNetwork (%s)", a, names)
	case p == nil:
		return a.String() + ", which belongs to no pod"
	}
	return fmt.Sprintf("%s (labels %s; namespace labels %s)", p.NamespacedName, labelText(p.Labels),
		labelText(c.Namespaces[p.Namespace]))
}

// one returns the verb for one policy or for more.
func one(policies []types.NamespacedName, verb, verbs string) string {
	if len(policies) == 1 {
		return verb
	}
	return verbs
}

// list names policies.
func list(policies []types.NamespacedName) string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}
