// SPDX-License-Identifier: Apache-2.0

package roster

import (
	"cmp"
	"strings"

	"github.com/netpold/netpold/translate/policy"
)

// Workload is what an operator deploys as a unit: the pods of a Deployment, StatefulSet, DaemonSet, Job or CronJob, or
// a single pod.
type Workload struct {
	Namespace string `json:"namespace"`
	Kind      string `json:"kind"` // of the owner; "Pod" without one
	Name      string `json:"name"`
}

// CompareWorkloads orders workloads by namespace, then name, then kind.
func CompareWorkloads(a, b Workload) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
}

// String returns the workload as "namespace/name".
func (w Workload) String() string { return w.Namespace + "/" + w.Name }

// templateHash is the label with which a Deployment distinguishes the pods of its ReplicaSets.
const templateHash = "pod-template-hash"

// WorkloadOf returns the workload that a pod belongs to. It recognizes controllers in between by their names: a
// Deployment's ReplicaSet ends in the hash of its template, a CronJob's Job in the minute that it was due.
func WorkloadOf(p *policy.Pod) Workload {
	kind, name, owned := strings.Cut(p.Owner, "/")
	if !owned {
		return Workload{p.Namespace, "Pod", p.Name}
	}
	switch kind {
	case "ReplicaSet":
		if base, cut := strings.CutSuffix(name, "-"+p.Labels[templateHash]); cut && p.Labels[templateHash] != "" {
			kind, name = "Deployment", base
		}
	case "Job":
		if i := strings.LastIndexByte(name, '-'); i > 0 && isMinute(name[i+1:]) {
			kind, name = "CronJob", name[:i]
		}
	case "Node": // a static pod, which the kubelet names after its node
		kind, name = "Pod", strings.TrimSuffix(p.Name, "-"+name)
	}
	return Workload{p.Namespace, kind, name}
}

// isMinute says whether text is how a CronJob ends its Jobs' names: the minutes since 1970, or in older versions the
// seconds.
func isMinute(text string) bool {
	digits := strings.Trim(text, "0123456789") == ""
	return digits && (len(text) == 8 || len(text) == 10)
}
