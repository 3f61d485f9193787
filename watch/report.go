// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"cmp"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/drops"
	"github.com/netpold/netpold/watch/flows"
	"github.com/netpold/netpold/watch/preflight"
)

// Report is the state of a daemon, as `netpold status` shows it. Its JSON form is that of the endpoint /status.
type Report struct {
	Version         string            `json:"version"`
	Node            string            `json:"node"`
	Started         time.Time         `json:"started"`
	Synced          bool              `json:"synced"` // the source has sent everything once
	InSync          bool              `json:"inSync"` // and the kernel holds the resulting table
	Kernel          KernelReport      `json:"kernel"`
	Source          SourceReport      `json:"source"`
	IsolatedPods    map[string]int    `json:"isolatedPods"` // of this node, by direction
	AuditedPods     map[string]int    `json:"auditedPods"`  // that audited policies select
	Pods            PodsReport        `json:"pods"`
	Policies        PoliciesReport    `json:"policies"`
	Table           TableReport       `json:"table"`
	LastTransaction TransactionReport `json:"lastTransaction"`
	Transactions    int               `json:"transactions"` // committed
	Recoveries      int               `json:"recoveries"`   // replacements of the whole table after the start
	// current generation of the ruleset, which everybody's transactions raise; 0: not known
	Generation uint32              `json:"generation"`
	Preflight  []preflight.Finding `json:"preflight"`
	DropLog    *drops.State        `json:"dropLog,omitempty"` // nil if there is no log group
	Guard      GuardReport         `json:"guard"`
	Flows      *flows.State        `json:"flows,omitempty"` // nil without --observe
}

// GuardReport is whether unknown pods are denied: the node's pod addresses that belong to no known pod.
type GuardReport struct {
	On  string `json:"on,omitempty"`  // the pod address ranges, or the pod links
	Off string `json:"off,omitempty"` // why it is not

	// There is no guard only because this node's pod addresses are not known.
	Unsure bool `json:"unsure,omitempty"`
}

// KernelReport is the enforcing kernel, and what it lacks.
type KernelReport struct {
	Release string `json:"release"` // as uname -r prints it
	Lacks   []Lack `json:"lacks"`
}

// Lack is a feature that the kernel lacks and netpold can do without.
type Lack struct {
	What   string `json:"what"`
	Since  string `json:"since"`  // the Linux versions that have it
	Effect string `json:"effect"` // on what is enforced
}

// SourceReport is the source of the objects, and whether it answers.
type SourceReport struct {
	Name      string     `json:"name"`
	AwaySince *time.Time `json:"awaySince,omitempty"` // nil while it answers
	Error     string     `json:"error,omitempty"`     // why it does not
}

// PodsReport counts pods.
type PodsReport struct {
	Cluster int `json:"cluster"`
	Node    int `json:"node"`
}

// PoliciesReport counts policies, and names those that are not in force as written.
type PoliciesReport struct {
	Total    int             `json:"total"`
	InEffect int             `json:"inEffect"` // isolate a pod of this node, as written
	Audited  int             `json:"audited"`  // only audited
	Troubled map[string]int  `json:"troubled"` // not in force as written, by their worst kind of trouble
	Troubles []TroubleReport `json:"troubles"`

	Cluster ClusterPoliciesReport `json:"cluster"`
}

// ClusterPoliciesReport counts ClusterNetworkPolicies.
type ClusterPoliciesReport struct {
	Total    int `json:"total"`
	InEffect int `json:"inEffect"` // enforced, with a rule for a pod of this node
	Audited  int `json:"audited"`  // only audited

	// Ties are policies with the same tier and priority, in the order of evaluation, which is by name.
	Ties [][]string `json:"ties,omitempty"`

	// Sequential are policies of this node's pods whose rules are checked one after the other, being too large for one
	// lookup.
	Sequential [][]string `json:"sequential,omitempty"`
}

// TroubleReport is a [book.Trouble].
type TroubleReport struct {
	Kind     string   `json:"kind"`
	Policies []string `json:"policies"`
	Reason   string   `json:"reason"`
}

// TableReport counts what the table should hold.
type TableReport struct {
	Name       string `json:"name"`
	Isolations int    `json:"isolations"`
	Sets       int    `json:"sets"`
	Elements   int    `json:"elements"`
}

// TransactionReport is the newest transaction.
type TransactionReport struct {
	Time       time.Time `json:"time,omitzero"`
	Operations int       `json:"operations"`
	Seconds    float64   `json:"seconds"`
	Error      string    `json:"error,omitempty"`
}

// Report returns the current state of the loop. It does not ask the kernel, so Generation is 0.
func (l *Loop) Report() Report {
	r := l.report()
	r.Preflight = []preflight.Finding{}
	if l.config.Findings != nil {
		r.Preflight = append(r.Preflight, l.config.Findings(r)...)
	}
	return r
}

// report is Report without what comes from files.
func (l *Loop) report() Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	sum := l.state.Summary()
	r := Report{
		Version: l.config.Version, Node: l.config.Node, Started: l.started,
		Synced: l.status.Synced, InSync: l.inSync(),
		Kernel:       KernelReport{Release: l.config.Linux.Release, Lacks: append([]Lack{}, l.config.Linux.Lacks...)},
		Source:       SourceReport{Name: l.config.Source},
		IsolatedPods: make(map[string]int), AuditedPods: make(map[string]int),
		Pods: PodsReport{Cluster: sum.Pods, Node: sum.NodePods},
		Policies: PoliciesReport{Total: sum.Policies, InEffect: sum.InEffect, Audited: sum.Auditing,
			Troubled: make(map[string]int),
			Troubles: []TroubleReport{},
			Cluster: ClusterPoliciesReport{Total: sum.ClusterPolicies, InEffect: sum.ClusterInEffect,
				Audited: sum.ClusterAuditing}},
		Table: TableReport{Name: "inet " + frame.TableName, Isolations: sum.Isolations, Sets: sum.Sets,
			Elements: sum.Elements},
		Transactions: l.status.Transactions, Recoveries: l.status.Recoveries,
		LastTransaction: l.status.Last,
	}
	if err := l.status.LastError; err != nil {
		r.LastTransaction.Error = err.Error()
	}
	if !l.awaySince.IsZero() {
		since := l.awaySince
		r.Source.AwaySince, r.Source.Error = &since, l.awayError
	}
	r.DropLog, r.Flows = l.drops.State(), l.flows.State()
	guard := l.state.Guard()
	r.Guard = GuardReport{On: guard.Wanted().String(), Off: guard.Off(), Unsure: guard.Unsure()}
	for _, d := range policy.Directions() {
		r.IsolatedPods[d.String()], r.AuditedPods[d.String()] = sum.Isolated[d], sum.Audited[d]
	}
	for _, kind := range book.TroubleKinds() {
		r.Policies.Troubled[kind.String()] = sum.Troubled[kind]
	}
	if sum.ClusterPolicies > 0 {
		r.Policies.Cluster.Ties = l.state.Ties()
		for _, policies := range l.state.Sequential() {
			r.Policies.Cluster.Sequential = append(r.Policies.Cluster.Sequential, policyTexts(policies))
		}
		slices.SortFunc(r.Policies.Cluster.Sequential, slices.Compare)
	}
	for t := range l.state.Troubles() {
		r.Policies.Troubles = append(r.Policies.Troubles,
			TroubleReport{t.Kind.String(), policyTexts(t.Policies), t.Reason})
	}
	slices.SortFunc(r.Policies.Troubles, func(a, b TroubleReport) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), slices.Compare(a.Policies, b.Policies),
			cmp.Compare(a.Reason, b.Reason))
	})
	return r
}

// policyTexts returns the names of policies.
func policyTexts(policies []types.NamespacedName) []string {
	texts := make([]string, len(policies))
	for i, p := range policies {
		texts[i] = frame.PolicyName(p)
	}
	return texts
}
