// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
)

// ModeAnnotation is the annotation of a NetworkPolicy, or of a namespace for the policies in it that have none, that
// says whether a policy is enforced or only audited. Another value than these two is a fault, and enforces.
const (
	ModeAnnotation = "netpold.io/mode"
	Enforce        = "enforce"
	Audit          = "audit"
)

// Audited says whether a policy is only audited: it isolates nothing and allows nothing, and what it would deny, were
// it enforced beside all others, is told.
func (c *Cluster) Audited(np *networkingv1.NetworkPolicy) bool {
	value, own := np.Annotations[ModeAnnotation]
	if !own {
		value = c.Modes[np.Namespace]
	}
	return value == Audit
}

// ModeOf returns what of an object's annotations is its mode: nil if it has none.
func ModeOf(annotations map[string]string) map[string]string {
	if value, has := annotations[ModeAnnotation]; has {
		return map[string]string{ModeAnnotation: value}
	}
	return nil
}

// SetMode takes the mode of a namespace from its annotations.
func (c *Cluster) SetMode(namespace string, annotations map[string]string) {
	if c.Modes == nil {
		c.Modes = make(map[string]string)
	}
	delete(c.Modes, namespace)
	if value, has := annotations[ModeAnnotation]; has {
		c.Modes[namespace] = value
	}
}

// WouldDeny says whether nothing before the audited policies denies the flow in this direction, and they would, were
// they enforced. Tier Baseline comes after them.
func (d Decision) WouldDeny() bool {
	return d.Audit != nil && !d.Audit.Allowed && (d.Allowed || d.Baseline.decides())
}

// modePath names the annotation in errors.
const modePath = "metadata.annotations[" + ModeAnnotation + "]: "

// modeFault returns what is not valid in a value of the annotation, or "".
func modeFault(value string) string {
	if value == Enforce || value == Audit {
		return ""
	}
	return fmt.Sprintf("%q is not %s or %s; it is enforced", value, Audit, Enforce)
}
