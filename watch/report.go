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

// Report is the state of a daemon, as `netpold status` shows it. Its JSON form is what the endpoint /status answers.
type Report struct {
	Version         string            `json:"version"`
	Node            string            `json:"node"`
	Started         time.Time         `json:"started"`
	Synced          bool              `json:"synced"` // the source has told everything once
	InSync          bool              `json:"inSync"` // and the kernel holds what follows from it
	Kernel          KernelReport      `json:"kernel"`
	Source          SourceReport      `json:"source"`
	IsolatedPods    map[string]int    `json:"isolatedPods"` // of this node, by direction
	AuditedPods     map[string]int    `json:"auditedPods"`  // that audited policies are asked about
	Pods            PodsReport        `json:"pods"`
	Policies        PoliciesReport    `json:"policies"`
	Table           TableReport       `json:"table"`
	LastTransaction TransactionReport `json:"lastTransaction"`
	Transactions    int               `json:"transactions"` // committed
	Recoveries      int               `json:"recoveries"`   // replacements of the whole table after the start
	// of the ruleset now, which everybody's transactions raise; 0: not known
	Generation uint32              `json:"generation"`
	Preflight  []preflight.Finding `json:"preflight"`
	DropLog    *drops.State        `json:"dropLog,omitempty"` // nil if no group is read
	Guard      GuardReport         `json:"guard"`
	Flows      *flows.State        `json:"flows,omitempty"` // nil if none are observed
}

// GuardReport is whether unknown pods are denied: addresses for pods of the node that no known pod has.
type GuardReport struct {
	On  string `json:"on,omitempty"`  // the ranges of addresses for pods, or their links
	Off string `json:"off,omitempty"` // why it is not

	// There would be a guard if it was known which addresses are for pods of this node.
	Unsure bool `json:"unsure,omitempty"`
}

// KernelReport is the kernel that enforces, and what netpold does without on it.
type KernelReport struct {
	Release string `json:"release"` // as uname -r prints it
	Lacks   []Lack `json:"lacks"`
}

// Lack is something that the kernel cannot do, and that netpold can do without.
type Lack struct {
	What   string `json:"what"`
	Since  string `json:"since"`  // the Linux versions that can do it
	Effect string `json:"effect"` // on what is enforced
}

// SourceReport is where the objects come from, and whether it answers.
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

// PoliciesReport counts policies, and names those that are not in force as they are written.
type PoliciesReport struct {
	Total    int             `json:"total"`
	InEffect int             `json:"inEffect"` // that isolate a pod of this node, as they are written
	Audited  int             `json:"audited"`  // that are only audited
	Troubled map[string]int  `json:"troubled"` // that are not, by the worst kind of their troubles
	Troubles []TroubleReport `json:"troubles"`

	Cluster ClusterPoliciesReport `json:"cluster"`
}

// ClusterPoliciesReport counts ClusterNetworkPolicies.
type ClusterPoliciesReport struct {
	Total    int `json:"total"`
	InEffect int `json:"inEffect"` // that are enforced, with a rule for a pod of this node
	Audited  int `json:"audited"`  // that are only audited

	// Ties are those of one tier and priority, in the order in which they are asked: that of their names.
	Ties [][]string `json:"ties,omitempty"`

	// Sequential are those of pods of this node whose rules are asked one after the other, as they are too much for
	// less.
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

// Report returns the state of the loop as of now. The kernel is not asked: the Generation is not known.
func (l *Loop) Report() Report {
	r := l.report()
	r.Preflight = []preflight.Finding{}
	if l.config.Findings != nil {
		r.Preflight = append(r.Preflight, l.config.Findings(r)...)
	}
	return r
}

// report is Report without what is read from files.
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
		LastTransaction: TransactionReport{
			Time: l.status.LastCommit, Operations: l.status.LastOperations, Seconds: l.status.LastElapsed.Seconds(),
		},
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
