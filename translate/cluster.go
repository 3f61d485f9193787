// SPDX-License-Identifier: Apache-2.0

package translate

import (
	networkingv1 "k8s.io/api/networking/v1"
)

// Cluster is a cluster's state as plain objects: what a folder of manifests holds, and what [Cluster.Explain] walks.
type Cluster struct {
	Pods       []Pod
	Namespaces map[string]map[string]string // labels by name
	Policies   []*networkingv1.NetworkPolicy
	Sandboxes  []Sandbox // of one node, if it is asked what that enforces
	PodToNode  PodToNode

	// Quarantines are the isolations of pods that one node has set aside, as far as it was asked: see [State.Excerpt].
	Quarantines []PodQuarantine

	// OverLimit is what is over a limit on the nodes of pods, as far as they were asked: see [State.OverLimit].
	OverLimit []PodExcess
}
