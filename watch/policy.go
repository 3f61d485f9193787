// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"net/http"
	"slices"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// PolicyReport says whether a policy is in force on a node, as `netpold status NAMESPACE/POLICY` shows it. Its JSON
// form is that of the endpoint /policy.
type PolicyReport struct {
	Node    string `json:"node"`
	Policy  string `json:"policy"`
	InForce bool   `json:"inForce"`          // the kernel enforces Spec as written, for Pods
	Reason  string `json:"reason,omitempty"` // why it is not

	Spec *networkingv1.NetworkPolicySpec `json:"spec,omitempty"` // as the daemon knows it
	Pods []string                        `json:"pods"`           // the pods of this node that it isolates
}

// PolicyReport returns whether a policy is in force now.
func (l *Loop) PolicyReport(name types.NamespacedName) PolicyReport {
	whole := l.report()
	r := PolicyReport{Node: whole.Node, Policy: name.String(), Pods: []string{}}
	known, audited, meant := false, false, ""
	l.view(func(s *translate.State) {
		np, pods := s.Policy(name)
		known = np != nil
		if known {
			r.Spec, r.Pods, audited = &np.Spec, append(r.Pods, pods...), s.Audits(name)
			return
		}
		var names []string
		for other := range s.Policies() {
			names = append(names, other.String())
		}
		meant = policy.DidYouMean(r.Policy, names)
	})
	troubled := slices.IndexFunc(whole.Policies.Troubles, func(t TroubleReport) bool {
		return slices.Contains(t.Policies, r.Policy)
	})
	switch {
	case !whole.Synced:
		r.Reason = "waiting for the source"
	case !known:
		r.Reason = "the daemon knows no NetworkPolicy " + r.Policy + meant
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
	return r
}

// servePolicy serves the [PolicyReport] of ?name=NAMESPACE/NAME.
func (l *Loop) servePolicy(w http.ResponseWriter, r *http.Request) {
	namespace, name, ok := strings.Cut(r.URL.Query().Get("name"), "/")
	if !ok {
		http.Error(w, "want a NetworkPolicy as NAMESPACE/NAME", http.StatusBadRequest)
		return
	}
	answer(w, l.PolicyReport(types.NamespacedName{Namespace: namespace, Name: name}))
}
