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
	Inherited Mode = iota // its namespace decides
	Enforced
	Audited // it isolates nothing and allows nothing; what it would deny is reported
)

// ModeOf returns the mode in the annotations of a policy or namespace. An invalid mode enforces, and is an error.
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
