// SPDX-License-Identifier: Apache-2.0

package book

import (
	"iter"

	"k8s.io/apimachinery/pkg/types"
)

// Trouble says that policies are not in force as written, and why. Unless they are [Unenforced], they still isolate the
// pods that they select, and allow less than they say.
type Trouble struct {
	Kind     TroubleKind
	Policies []types.NamespacedName // sorted; ClusterNetworkPolicies without namespace; read-only
	Reason   string
}

// TroubleKind is what is wrong with policies.
type TroubleKind uint8

// The kinds of trouble, the worst last.
const (
	Unaudited   TroubleKind = iota // the kernel refused audited policies; their pods are not audited
	Rejected                       // part of the policy does not compile; the rest is in force
	OverLimit                      // the policy asks for more than a limit allows
	Quarantined                    // the kernel refused the policies; nothing is allowed to their pods
	Unenforced                     // a pod is not isolated: the kernel refused everything that would isolate it
)

// TroubleKinds returns all kinds.
func TroubleKinds() [5]TroubleKind {
	return [...]TroubleKind{Unaudited, Rejected, OverLimit, Quarantined, Unenforced}
}

// String returns the kind as status and metrics name it.
func (k TroubleKind) String() string {
	return [...]string{"unaudited", "rejected", "over-limit", "quarantined", "unenforced"}[k]
}

// Worst returns the worst trouble of each policy that has any.
func Worst(all iter.Seq[Trouble]) map[types.NamespacedName]TroubleKind {
	worst := make(map[types.NamespacedName]TroubleKind)
	for t := range all {
		for _, name := range t.Policies {
			worst[name] = max(worst[name], t.Kind)
		}
	}
	return worst
}
