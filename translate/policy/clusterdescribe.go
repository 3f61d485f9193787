// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// ClusterNear is the rule of a tier that comes nearest to letting a denied flow pass, and the first part of it that
// does not fit.
type ClusterNear struct {
	ClusterRuleRef
	Reason string // in words for an operator
}

// NearestInTier returns the rule that comes nearest to letting a flow pass in one direction, among those before the
// rule that denies it: one that names the peer is nearer than one that names the port. It is nil if there is none, or
// the tier does not deny the flow.
func (c *Cluster) NearestInTier(f Flow, d Direction, tier v1alpha2.Tier) *ClusterNear {
	e := c.ends(f)
	denies := c.ask(tier, d, e)
	if !denies.decides() || denies.accepts() {
		return nil
	}
	pod, _, _ := e.of(d)
	var nearest *ClusterNear
	best := -1
	for _, r := range c.TierRules(tier, d, pod) {
		if r.ClusterRuleRef == denies.ClusterRuleRef {
			break
		}
		if rank, reason := c.clusterMisfit(r, e); rank > best {
			best, nearest = rank, &ClusterNear{r.ClusterRuleRef, reason}
		}
	}
	return nearest
}

// clusterMisfit says how near a rule that does not match comes to letting a flow pass, and what does not fit; a denying
// rule never comes near.
func (c *Cluster) clusterMisfit(r ClusterRule, e ends) (rank int, reason string) {
	verb := "accepts"
	switch r.Action {
	case v1alpha2.ClusterNetworkPolicyRuleActionAccept:
	case v1alpha2.ClusterNetworkPolicyRuleActionPass:
		verb = "passes"
	default:
		return -1, ""
	}
	_, peer, addr := e.of(r.Direction)
	switch peers, protocols := c.clusterFit(r, e); {
	case r.Fault != "" && peers:
		return 3, "the rule is not valid and matches nothing: " + r.Fault
	case peers:
		return 3, fmt.Sprintf("it %s %s, not %s", verb, protocolsText(r.Protocols), serviceOf(e.flow))
	case r.Fault != "":
		return 1, "the rule is not valid and matches nothing: " + r.Fault
	case protocols:
		return 2, "its peers do not include " + c.peerText(peer, addr)
	}
	return 0, fmt.Sprintf("it %s neither %s nor this peer", verb, serviceOf(e.flow))
}

// verdictText describes a tier's verdict; before precedes it.
func (c *Cluster) verdictText(f Flow, v *ClusterVerdict, before string) string {
	switch {
	case v.accepts():
		return "allowed: " + before + v.String() + " accepts"
	case v.Fault != "":
		return fmt.Sprintf("denied: %s%s is not valid and denies everything: %s", before, v, v.Fault)
	}
	text := fmt.Sprintf("denied: %s%s denies", before, v)
	if near := c.NearestInTier(f, v.Direction, v.Tier); near != nil {
		text += fmt.Sprintf(" (nearest: %s: %s)", near.ClusterRuleRef, near.Reason)
	}
	return text
}

// passed says which rules passed the flow on to the next tier, or "".
func (d Decision) passed() string {
	var text strings.Builder
	for _, v := range []*ClusterVerdict{d.Admin, d.Baseline} {
		if v != nil && !v.decides() {
			text.WriteString(v.String() + " passes; ")
		}
	}
	return text.String()
}

// protocolsText names the first few protocols for an operator.
func protocolsText(all []v1alpha2.ClusterNetworkPolicyProtocol) string {
	var names []string
	for _, p := range all {
		proto, port := ClusterPort(p)
		switch {
		case port == nil:
			names = append(names, "port "+plain(p.DestinationNamedPort))
		case port.Range != nil:
			names = append(names, fmt.Sprintf("%s %d-%d", protocolName(proto), port.Range.Start, port.Range.End))
		default:
			names = append(names, fmt.Sprintf("%s %d", protocolName(proto), port.Number))
		}
	}
	return few(names, maxPorts)
}

// clusterFaults returns what is invalid in the ClusterNetworkPolicies: outside rules, and the first fault of each rule.
func (c *Cluster) clusterFaults() []error {
	var errs []error
	for _, p := range c.ClusterPolicies {
		if value, has := p.Annotations[ModeAnnotation]; has && modeFault(value) != "" {
			errs = append(errs, fmt.Errorf("ClusterNetworkPolicy %s: %s%s", p.Name, modePath, modeFault(value)))
		}
		if fault := p.Fault(); fault != "" {
			errs = append(errs, fmt.Errorf("ClusterNetworkPolicy %s: %s; no rule of it accepts anything, and every "+
				"other denies everything", p.Name, fault))
			continue
		}
		for _, d := range Directions() {
			for _, r := range p.Rules(d) {
				effect := "denies everything"
				if !r.counts() {
					effect = "accepts nothing"
				}
				if r.Fault != "" {
					errs = append(errs, fmt.Errorf("ClusterNetworkPolicy %s: %s; the rule %s", p.Name, r.Fault, effect))
				}
			}
		}
	}
	return errs
}

// Ties returns groups of ClusterNetworkPolicies with equal tier and priority, in order of evaluation: "there is no way
// for the user to reliably determine which one it will choose", but here the name decides.
func (c *Cluster) Ties() [][]string {
	type place struct {
		tier     v1alpha2.Tier
		priority int32
	}
	names := make(map[place][]string)
	for _, p := range c.ClusterPolicies {
		at := place{p.Tier(), p.Spec.Priority}
		names[at] = append(names[at], p.Name)
	}
	var ties [][]string
	for _, tied := range names {
		if len(tied) > 1 {
			slices.Sort(tied)
			ties = append(ties, tied)
		}
	}
	slices.SortFunc(ties, slices.Compare)
	return ties
}
