// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// Document is a view in JSON.
type Document struct {
	Workloads   []WorkloadText   `json:"workloads"`
	Connections []ConnectionText `json:"connections"`
	Audited     []string         `json:"auditedPolicies,omitempty"` // "namespace/name" or "KIND name"; not counted
}

// WorkloadText is a workload, and the policies that isolate it.
type WorkloadText struct {
	ID string `json:"id"` // "namespace/Kind/name"
	connectivity.Workload
	Pods        int      `json:"pods"`
	HostNetwork bool     `json:"hostNetwork,omitempty"`
	Ingress     []string `json:"ingressPolicies"` // that isolate it
	Egress      []string `json:"egressPolicies"`

	// ClusterNetworkPolicies with rules for it, such as "Admin: guard", in order of evaluation.
	IngressTiers []string `json:"ingressTiers,omitempty"`
	EgressTiers  []string `json:"egressTiers,omitempty"`
}

// ConnectionText is what is open from each of From to each of To.
type ConnectionText struct {
	From     EndText             `json:"from"`
	To       EndText             `json:"to"`
	Ports    connectivity.Ports  `json:"ports"`              // between all pods
	SomePods *connectivity.Ports `json:"somePods,omitempty"` // if more is open between some of them
}

// EndText is one side of a connection: the ids of workloads, or outside networks.
type EndText struct {
	Workloads []string `json:"workloads,omitempty"`
	Networks  []string `json:"networks,omitempty"`
}

// JSON writes a view as a [Document].
func JSON(w io.Writer, v View) error {
	shown, audited, ids := v.shown(), fullNames(v.Audited()), idsOf(&v.Roster)
	return writeDocument(w, []array{
		{"workloads", len(shown), func(n int) any {
			i := shown[n]
			return WorkloadText{
				ID: ids[i], Workload: v.Workloads[i], Pods: v.Pods(i), HostNetwork: v.OnHost(i),
				Ingress: v.policyNames(policy.Ingress, i), Egress: v.policyNames(policy.Egress, i),
				IngressTiers: v.TieredBy(policy.Ingress, i), EgressTiers: v.TieredBy(policy.Egress, i),
			}
		}},
		{"connections", len(v.Connections), func(i int) any {
			c := v.Connections[i]
			text := ConnectionText{From: ids.end(c.From), To: ids.end(c.To), Ports: c.Every}
			if !c.Some.Equal(c.Every) {
				text.SomePods = &c.Some
			}
			return text
		}},
	}, names("auditedPolicies", audited))
}

// array is a field of a document.
type array struct {
	name string
	len  int
	item func(int) any
}

func names(field string, all []string) array {
	return array{field, len(all), func(i int) any { return all[i] }}
}

// writeDocument writes a document as an encoder with two spaces would, but item by item, since it may have a hundred
// megabytes. Empty optional arrays are left out.
func writeDocument(w io.Writer, arrays []array, optional ...array) error {
	b := bufio.NewWriter(w) // it keeps the first error, for Flush
	next := "{\n"
	for _, a := range append(arrays, slices.DeleteFunc(optional, func(a array) bool { return a.len == 0 })...) {
		fmt.Fprintf(b, "%s  %q: [", next, a.name)
		next = ",\n"
		for i := range a.len {
			item, err := json.MarshalIndent(a.item(i), "    ", "  ")
			if err != nil {
				return err
			}
			fmt.Fprintf(b, "%s\n    %s", ","[:min(i, 1)], item)
		}
		if a.len > 0 {
			fmt.Fprint(b, "\n  ")
		}
		fmt.Fprint(b, "]")
	}
	fmt.Fprint(b, "\n}\n")
	return b.Flush()
}

func workloadID(w connectivity.Workload) string { return w.Namespace + "/" + w.Kind + "/" + w.Name }

func (v View) policyNames(d policy.Direction, workload int) []string {
	isolating, _ := v.IsolatedBy(d, workload)
	return append([]string{}, fullNames(isolating)...)
}

func fullNames(all []types.NamespacedName) []string {
	var text []string
	for _, n := range all {
		if n.Namespace == "" {
			text = append(text, "ClusterNetworkPolicy "+n.Name)
			continue
		}
		text = append(text, n.String())
	}
	return text
}

// workloadIDs caches the ids of workloads, which are written many times, by index.
type workloadIDs []string

func idsOf(r *connectivity.Roster) workloadIDs {
	ids := make(workloadIDs, len(r.Workloads))
	for i, w := range r.Workloads {
		ids[i] = workloadID(w)
	}
	return ids
}

// of returns the ids of some workloads.
func (ids workloadIDs) of(workloads []int) []string {
	some := make([]string, len(workloads))
	for i, w := range workloads {
		some[i] = ids[w]
	}
	return some
}

// end returns a side in JSON.
func (ids workloadIDs) end(s connectivity.Side) EndText {
	var e EndText
	if len(s.Workloads) > 0 {
		e.Workloads = ids.of(s.Workloads)
	}
	for _, p := range s.Networks.Prefixes() {
		e.Networks = append(e.Networks, p.String())
	}
	return e
}
