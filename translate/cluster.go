// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"k8s.io/apimachinery/pkg/types"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/nft"
)

// Cluster is a cluster's state as plain objects: what a folder of manifests holds, and what [Cluster.Explain] walks.
type Cluster struct {
	Pods       []Pod
	Namespaces map[string]map[string]string // labels by name
	Policies   []*networkingv1.NetworkPolicy
}

// Explanation answers whether the cluster's policies allow a flow. A flow is allowed when both directions allow it.
type Explanation struct {
	Flow    nft.Flow
	Allowed bool
	Egress  Decision // of the source
	Ingress Decision // of the destination
}

// Decision is the answer for one direction of a flow.
type Decision struct {
	Direction Direction
	Pod       *Pod                   // at this end of the flow; nil when the address belongs to no pod that policy can select
	Isolated  bool                   // a policy selects Pod for Direction
	Policies  []types.NamespacedName // that isolate Pod for Direction, sorted
	Allowed   bool
	AllowedBy *RuleRef // nil unless Isolated and a rule allows the flow
	Nearest   *Near    // of a flow that is not allowed: the rule that comes nearest, nil when there is no rule at all
	Exempt    string   // why no policy could block the flow in this direction, or ""
}

// RuleRef names a rule of a policy.
type RuleRef struct {
	Policy    types.NamespacedName
	Direction Direction
	Index     int // in spec.ingress or spec.egress
}

// Near is a rule that does not allow a flow, and the first part of it that does not fit.
type Near struct {
	RuleRef
	Reason string // as "port 5432" or "its peers do not match", in words for an operator
}
