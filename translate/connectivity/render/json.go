// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"io"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// Document is a view in JSON.
type Document struct {
	Workloads   []WorkloadText   `json:"workloads"`
	Connections []ConnectionText `json:"connections"`
	Audited     []string         `json:"auditedPolicies,omitempty"` // "namespace/name"; they do not count
}

// WorkloadText is a workload, and the policies that isolate it.
type WorkloadText struct {
	ID string `json:"id"` // "namespace/Kind/name"
	connectivity.Workload
	Pods        int      `json:"pods"`
	HostNetwork bool     `json:"hostNetwork,omitempty"`
	Ingress     []string `json:"ingressPolicies"` // that isolate it
	Egress      []string `json:"egressPolicies"`

	// ClusterNetworkPolicies that have rules for it, as "Admin: guard", in the order in which they are asked.
	IngressTiers []string `json:"ingressTiers,omitempty"`
	EgressTiers  []string `json:"egressTiers,omitempty"`
}

// ConnectionText is what is open from each of From to each of To.
type ConnectionText struct {
	From     EndText             `json:"from"`
	To       EndText             `json:"to"`
	Ports    connectivity.Ports  `json:"ports"`              // between all pods
	SomePods *connectivity.Ports `json:"somePods,omitempty"` // where it is more between some of them
}

// EndText is one side of a connection: the ids of workloads, or outside networks.
type EndText struct {
	Workloads []string `json:"workloads,omitempty"`
	Networks  []string `json:"networks,omitempty"`
}

// JSON writes a view as a [Document].
func JSON(w io.Writer, v View) error {
	doc := Document{Workloads: []WorkloadText{}, Connections: []ConnectionText{}}
	for _, i := range v.shown() {
		doc.Workloads = append(doc.Workloads, WorkloadText{
			ID: workloadID(v.Workloads[i]), Workload: v.Workloads[i], Pods: v.Pods(i), HostNetwork: v.OnHost(i),
			Ingress: v.policyNames(policy.Ingress, i), Egress: v.policyNames(policy.Egress, i),
			IngressTiers: v.TieredBy(policy.Ingress, i), EgressTiers: v.TieredBy(policy.Egress, i),
		})
	}
	doc.Audited = fullNames(v.Audited())
	for _, c := range v.Connections {
		text := ConnectionText{From: end(&v.Roster, c.From), To: end(&v.Roster, c.To), Ports: c.Every}
		if !c.Some.Equal(c.Every) {
			text.SomePods = &c.Some
		}
		doc.Connections = append(doc.Connections, text)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(doc)
}

func workloadID(w connectivity.Workload) string { return w.Namespace + "/" + w.Kind + "/" + w.Name }

func (v View) policyNames(d policy.Direction, workload int) []string {
	isolating, _ := v.IsolatedBy(d, workload)
	return append([]string{}, fullNames(isolating)...)
}

func fullNames(all []types.NamespacedName) []string {
	var text []string
	for _, n := range all {
		text = append(text, n.String())
	}
	return text
}

// end returns a side in JSON.
func end(r *connectivity.Roster, s connectivity.Side) EndText {
	var e EndText
	if len(s.Workloads) > 0 {
		e.Workloads = workloadIDs(r, s.Workloads)
	}
	for _, p := range s.Networks.Prefixes() {
		e.Networks = append(e.Networks, p.String())
	}
	return e
}

func workloadIDs(r *connectivity.Roster, workloads []int) []string {
	ids := []string{}
	for _, w := range workloads {
		ids = append(ids, workloadID(r.Workloads[w]))
	}
	return ids
}
