// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"net/http"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// PolicyReport says whether a policy is in force on a node, as `netpold status POLICY` shows it. Its JSON form is what
// the endpoint /policy answers.
type PolicyReport struct {
	Node    string   `json:"node"`
	Policy  string   `json:"policy"`           // NAMESPACE/NAME, or "ClusterNetworkPolicy NAME"
	InForce bool     `json:"inForce"`          // the kernel holds Spec, as it is written, for Pods
	Reason  string   `json:"reason,omitempty"` // why it is not
	Notes   []string `json:"notes,omitempty"`  // what else tells how it is in force

	// The policy as the daemon knows it: one of the two.
	Spec        *networkingv1.NetworkPolicySpec    `json:"spec,omitempty"`
	ClusterSpec *v1alpha2.ClusterNetworkPolicySpec `json:"clusterSpec,omitempty"`

	Unread []policy.Unread `json:"unread,omitempty"` // of a ClusterNetworkPolicy

	Pods []string `json:"pods"` // of this node, that it isolates, or that are its subjects
}

// PolicyReport returns whether a policy is in force, as of now; a ClusterNetworkPolicy's name has no namespace.
func (l *Loop) PolicyReport(name types.NamespacedName) PolicyReport {
	whole := l.report()
	r := PolicyReport{Node: whole.Node, Policy: frame.PolicyName(name), Pods: []string{}}
	known, audited := false, false
	l.view(func(s *translate.State) { known, audited = r.find(s, name) })
	mine := func(policies []string) bool { return slices.Contains(policies, r.Policy) }
	troubled := slices.IndexFunc(whole.Policies.Troubles, func(t TroubleReport) bool { return mine(t.Policies) })
	switch {
	case !whole.Synced:
		r.Reason = "waiting for the source"
	case !known: // and that is the reason
	case whole.LastTransaction.Error != "":
		r.Reason = "the last transaction failed: " + whole.LastTransaction.Error
	case !whole.InSync:
		r.Reason = "a transaction is in progress"
	case troubled >= 0:
		r.Reason = whole.Policies.Troubles[troubled].Kind + ": " + whole.Policies.Troubles[troubled].Reason
	case audited:
		r.Reason = "it is only audited (" + policy.ModeAnnotation + ")"
	default:
		r.InForce = true
	}
	for _, tie := range whole.Policies.Cluster.Ties {
		if slices.Contains(tie, name.Name) && name.Namespace == "" {
			r.Notes = append(r.Notes, "equal priority: "+TieText(tie))
		}
	}
	if slices.ContainsFunc(whole.Policies.Cluster.Sequential, mine) {
		r.Notes = append(r.Notes, "sequential: "+SequentialText)
	}
	return r
}

// find adds what a state has of a policy, or in Reason that it has none.
func (r *PolicyReport) find(s *translate.State, name types.NamespacedName) (known, audited bool) {
	kind, all := "", s.ClusterPolicies()
	if name.Namespace != "" {
		kind, all = "NetworkPolicy ", s.Policies()
		if np, pods := s.Policy(name); np != nil {
			r.Spec, r.Pods = &np.Spec, append(r.Pods, pods...)
			return true, s.Audits(name)
		}
	} else if p, pods := s.ClusterPolicy(name.Name); p != nil {
		source := p.Source()
		r.ClusterSpec, r.Unread, r.Pods = &source.Spec, source.Unread, append(r.Pods, pods...)
		return true, p.Audited()
	}
	var names []string
	for other := range all {
		names = append(names, policyText(other))
	}
	r.Reason = "the daemon knows no " + kind + r.Policy + policy.DidYouMean(policyText(name), names)
	return false, false
}

// policyText is how the name of a policy is given to `netpold status`.
func policyText(name types.NamespacedName) string {
	if name.Namespace == "" {
		return name.Name
	}
	return name.String()
}

// SequentialText says what is the matter with policies of [ClusterPoliciesReport.Sequential].
const SequentialText = "too large for one lookup; their rules are checked one after the other"

// TieText says how policies of one tier and priority are asked.
func TieText(names []string) string {
	return strings.Join(names, ", ") + ": evaluated in this order, by name"
}

// servePolicy answers the [PolicyReport] of ?name=NAMESPACE/NAME, or ?name=NAME of a ClusterNetworkPolicy.
func (l *Loop) servePolicy(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("name")
	namespace, name, namespaced := strings.Cut(text, "/")
	if !namespaced {
		namespace, name = "", text
	}
	if name == "" || namespaced && namespace == "" {
		http.Error(w, "want a NetworkPolicy as NAMESPACE/NAME, or a ClusterNetworkPolicy as NAME",
			http.StatusBadRequest)
		return
	}
	answer(w, l.PolicyReport(types.NamespacedName{Namespace: namespace, Name: name}))
}
