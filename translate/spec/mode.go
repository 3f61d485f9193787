// SPDX-License-Identifier: Apache-2.0

package spec

import (
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/netpold/netpold/translate/policy"
)

// Mode is whether a policy is in force.
type Mode uint8

// The modes.
const (
	Inherited Mode = iota // its namespace says
	Enforced
	Audited // it isolates nothing and allows nothing; what it would deny is told
)

// ModeOf returns the mode that the annotations of a policy, or of a namespace, say. One that is neither is enforced,
// and an error.
func ModeOf(annotations map[string]string) (Mode, *field.Error) {
	switch value, has := annotations[policy.ModeAnnotation]; {
	case !has:
		return Inherited, nil
	case value == policy.Audit:
		return Audited, nil
	case value == policy.Enforce:
		return Enforced, nil
	default:
		path := field.NewPath("metadata", "annotations").Key(policy.ModeAnnotation)
		return Enforced, field.NotSupported(path, value, []string{policy.Audit, policy.Enforce})
	}
}
