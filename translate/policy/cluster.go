// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// Cluster is a cluster's state as plain objects: what a folder of manifests holds, and what [Cluster.Explain] walks.
type Cluster struct {
	Pods       []Pod
	Namespaces map[string]map[string]string // labels by name
	Policies   []*networkingv1.NetworkPolicy
	Modes      map[string]string // values of [ModeAnnotation], by the names of the namespaces that have it
	Sandboxes  []Sandbox         // of one node, if asked what that node enforces
	PodToNode  PodToNode

	ClusterPolicies []ClusterPolicy
	NodePeers       []NodePeer // may be empty if no ClusterNetworkPolicy has a nodes peer

	Nodes       map[string][]netip.Prefix // spec.podCIDRs by name
	GateReached bool                      // the container runtime of that node reports new pods
	Guard       *Guard                    // of one node, if asked what that node enforces; nil if none

	// Quarantines are the isolations of pods that one node has set aside, as far as known.
	Quarantines []PodQuarantine

	// OverLimit is what is over a limit on the pods' nodes, as far as known.
	OverLimit []PodExcess

	all bool // see [Cluster.AllEnforced]
}

// PodToNode says what happens to connections from a pod to its own node. The specification exempts only those from the
// node to its pods.
type PodToNode uint8

// The effect of egress policies on them.
const (
	FilterPodToNode PodToNode = iota // the same as for any other address
	AllowPodToNode                   // nothing
)

// Sandbox is a pod as its node's container runtime knows it: with its addresses from before its first container starts
// until the last has stopped. The API reports them up to a second later.
type Sandbox struct {
	ID string // the runtime's
	types.NamespacedName
	Node   string
	Labels map[string]string // used until the pod itself is known; immutable
	IPs    []netip.Addr
	Serial uint64 // of two sandboxes with one address, the greater serial has it; not 0

	// Stale says that the runtime has not been heard from since: the sandbox may be gone. What the API says about its
	// addresses then wins.
	Stale bool
}

// PodQuarantine says that a pod's isolation, or one of its addresses, is set aside.
type PodQuarantine struct {
	Pod       types.NamespacedName
	Direction Direction
	Address   netip.Addr // not valid: all of the pod's
	Reason    string
	Open      bool // nothing isolates the address

	// Tier is set if the pod's rules of a tier are set aside: everything is denied there.
	Tier  v1alpha2.Tier
	Audit bool // what is set aside only audits, and is left out
}

// Excess is a rule that is over a limit.
type Excess struct {
	RuleRef
	Reason string
}

// PodExcess has the rules of a pod's policies that are over a limit in a direction.
type PodExcess struct {
	Pod       types.NamespacedName
	Direction Direction
	Rules     []Excess
	Audit     bool // if all policies were enforced
}

// quarantine returns the quarantine of the pod at an end of a flow that has the direction, tier and audit of like, or
// nil.
func (c *Cluster) quarantine(like PodQuarantine, e ends) *PodQuarantine {
	pod, _, _ := e.of(like.Direction)
	i := slices.IndexFunc(c.Quarantines, func(q PodQuarantine) bool {
		return pod != nil && q.Pod == pod.NamespacedName && q.Direction == like.Direction && q.Tier == like.Tier &&
			q.Audit == like.Audit && (!q.Address.IsValid() || q.Address == e.own(q.Direction))
	})
	if i < 0 {
		return nil
	}
	return &c.Quarantines[i]
}

// selfless says whether a pod at both ends of a flow cannot reach itself, because its address is set aside in each
// direction in which any policy applies.
func (c *Cluster) selfless(e ends) bool {
	all := Directions()
	return !slices.ContainsFunc(all[:], func(d Direction) bool {
		for _, audit := range []bool{false, true} {
			if q := c.quarantine(PodQuarantine{Direction: d, Audit: audit}, e); q != nil && q.Address.IsValid() {
				return false
			}
		}
		return c.asks(d, e) || c.audits(d, e)
	})
}

// asks says whether any enforced policy applies to the pod at an end of a flow.
func (c *Cluster) asks(d Direction, e ends) bool {
	pod, _, _ := e.of(d)
	return len(c.isolating(d, pod)) > 0 ||
		c.hasRules(v1alpha2.AdminTier, d, pod) || c.hasRules(v1alpha2.BaselineTier, d, pod)
}

// audits says whether any audited policy applies that is not set aside.
func (c *Cluster) audits(d Direction, e ends) bool {
	pod, _, _ := e.of(d)
	all, aside := c.AllEnforced(), func(t v1alpha2.Tier) bool {
		return c.quarantine(PodQuarantine{Direction: d, Tier: t, Audit: true}, e) != nil
	}
	tiers, policies := len(c.auditedTiers(d, pod)) > 0, len(c.selecting(d, pod)) > 0
	if tiers && aside(v1alpha2.AdminTier) {
		return false
	}
	return policies && !aside("") || tiers && all.hasRules(v1alpha2.AdminTier, d, pod) ||
		tiers && !policies && !aside(v1alpha2.BaselineTier) && all.hasRules(v1alpha2.BaselineTier, d, pod)
}

// hasRules says whether a tier has a rule for a pod that may match something.
func (c *Cluster) hasRules(tier v1alpha2.Tier, d Direction, pod *Pod) bool {
	return slices.ContainsFunc(c.TierRules(tier, d, pod), ClusterRule.counts)
}

// tierQuarantine returns why a tier's rules for the pod at an end of a flow are set aside, or "".
func (c *Cluster) tierQuarantine(tier v1alpha2.Tier, d Direction, e ends) string {
	if q := c.quarantine(PodQuarantine{Direction: d, Tier: tier, Audit: c.all}, e); q != nil {
		return "tier " + string(tier) + ": " + q.Reason
	}
	return ""
}
