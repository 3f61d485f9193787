// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// ModeAnnotation is the annotation of a NetworkPolicy, or of a namespace for the policies in it that have none, or of a
// ClusterNetworkPolicy, that says whether a policy is enforced or only audited. Any other value is a fault, and
// enforces.
const (
	ModeAnnotation = "netpold.io/mode"
	Enforce        = "enforce"
	Audit          = "audit"
)

// Audited says whether a policy is only audited: it isolates nothing and allows nothing, and what it would deny if
// enforced with all others is reported.
func (c *Cluster) Audited(np *networkingv1.NetworkPolicy) bool {
	value, own := np.Annotations[ModeAnnotation]
	if !own {
		value = c.Modes[np.Namespace]
	}
	return value == Audit && !c.all
}

// AuditedInTier says whether a ClusterNetworkPolicy is only audited: none of its rules matches anything, and what would
// be denied if all policies were enforced is reported.
func (c *Cluster) AuditedInTier(p ClusterPolicy) bool {
	return p.Annotations[ModeAnnotation] == Audit && !c.all
}

// AllEnforced returns the cluster as if all policies were enforced. It shares memory with c.
func (c *Cluster) AllEnforced() *Cluster {
	all := *c
	all.all = true
	return &all
}

// auditedTiers returns the audited ClusterNetworkPolicies that apply to a pod in a direction, sorted; those of tier
// Baseline only if no NetworkPolicy would isolate it. A rule that accepts nothing does not count.
func (c *Cluster) auditedTiers(d Direction, pod *Pod) []string {
	free := len(c.selecting(d, pod)) == 0
	var names []string
	for _, p := range c.tierPolicies(pod) {
		if c.AuditedInTier(p) && (free || p.Tier() != v1alpha2.BaselineTier) &&
			slices.ContainsFunc(p.Rules(d), ClusterRule.counts) {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return names
}

// ModeOf returns the mode annotation of an object; nil if it has none.
func ModeOf(annotations map[string]string) map[string]string {
	if value, has := annotations[ModeAnnotation]; has {
		return map[string]string{ModeAnnotation: value}
	}
	return nil
}

// SetMode sets the mode of a namespace from its annotations.
func (c *Cluster) SetMode(namespace string, annotations map[string]string) {
	if c.Modes == nil {
		c.Modes = make(map[string]string)
	}
	delete(c.Modes, namespace)
	if value, has := annotations[ModeAnnotation]; has {
		c.Modes[namespace] = value
	}
}

// WouldDeny says whether it is reported that the flow would be denied in this direction if all policies were enforced.
// For a flow that really is denied here it is not, except by audited NetworkPolicies alone, which come before tier
// Baseline, whatever that then says.
func (d Decision) WouldDeny() bool {
	return d.Audit != nil && !d.Audit.Allowed &&
		(d.Allowed || len(d.AuditedTiers) == 0 && (d.Baseline.decides() || d.baselineAside))
}

// modePath names the annotation in errors.
const modePath = "metadata.annotations[" + ModeAnnotation + "]: "

// modeFault returns what is invalid in a value of the annotation, or "".
func modeFault(value string) string {
	if value == Enforce || value == Audit {
		return ""
	}
	return fmt.Sprintf("%q is not %s or %s; it is enforced", value, Audit, Enforce)
}
