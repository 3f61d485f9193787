// SPDX-License-Identifier: Apache-2.0

package command

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/flows"
)

// PrintStatus prints the state of a daemon, as text or json.
func PrintStatus(w io.Writer, output string, r watch.Report) error {
	if output == "json" {
		return PrintJSON(w, r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(t, name+":\t"+format+"\n", args...) }
	row("Node", "%s", r.Node)
	row("Version", "%s, up %s", r.Version, time.Since(r.Started).Round(time.Second))
	row("In sync", "%s", SyncText(r))
	row("Kernel", "Linux %s", r.Kernel.Release)
	for _, l := range r.Kernel.Lacks {
		row("  lacks", "%s (fixed in Linux %s): %s", l.What, l.Since, l.Effect)
	}
	row("Source", "%s", sourceText(r.Source))
	row("Pods", "%d in the cluster, %d on this node", r.Pods.Cluster, r.Pods.Node)
	row("Isolated", "%s for ingress, %d for egress", counted(r.IsolatedPods["ingress"], "pod", "pods"),
		r.IsolatedPods["egress"])
	row("Policies", "%d, %d of them fully in effect on this node", r.Policies.Total, r.Policies.InEffect)
	if n := r.Policies.Audited + r.Policies.Cluster.Audited; n > 0 {
		row("Audited", "%s; %s for ingress, %d for egress", counted(n, "policy", "policies"),
			counted(r.AuditedPods["ingress"], "pod", "pods"), r.AuditedPods["egress"])
	}
	if c := r.Policies.Cluster; c.Total > 0 {
		row("ClusterNetworkPolicies", "%d, %d of them with rules for pods of this node", c.Total, c.InEffect)
		for _, tie := range c.Ties {
			row("  equal priority", "%s", watch.TieText(tie))
		}
		for _, list := range c.Sequential {
			row("  sequential", "%s: %s", strings.Join(list, ", "), watch.SequentialText)
		}
	}
	for _, t := range r.Policies.Troubles {
		row("  "+t.Kind, "%s: %s", strings.Join(t.Policies, ", "), t.Reason)
	}
	row("Table", "%s: %s, %s, %s", r.Table.Name, counted(r.Table.Isolations, "isolation", "isolations"),
		counted(r.Table.Sets, "set", "sets"), counted(r.Table.Elements, "element", "elements"))
	if !r.LastTransaction.Time.IsZero() {
		took := time.Duration(r.LastTransaction.Seconds * float64(time.Second))
		row("Last transaction", "%s ago, %s in %s", time.Since(r.LastTransaction.Time).Round(time.Second),
			counted(r.LastTransaction.Operations, "operation", "operations"), took.Round(time.Microsecond))
	}
	row("Unknown pods", "%s", guardText(r.Guard))
	row("Transactions", "%d, %s; generation %d of the ruleset", r.Transactions,
		counted(r.Recoveries, "recovery", "recoveries"), r.Generation)
	if r.DropLog != nil && r.DropLog.OffSince != nil {
		row("Drop lines", "missing for %s: %s", time.Since(*r.DropLog.OffSince).Round(time.Second), r.DropLog.Error)
	}
	if r.Flows != nil {
		row("Flows", "%s", flowsText(*r.Flows))
	}
	for _, f := range r.Preflight {
		row("Not enforced", "%s: %s", f.Check, f.Problem)
		row("  to fix it", "%s", f.Remedy)
	}
	return t.Flush()
}

// PrintPolicy prints whether a policy is in force on a node, as text or json.
func PrintPolicy(w io.Writer, output string, r watch.PolicyReport) error {
	if output == "json" {
		return PrintJSON(w, r)
	}
	inForce := "yes"
	if !r.InForce {
		inForce = "no: " + r.Reason
	}
	selects, pods := "Isolates:", "none on this node"
	if !strings.Contains(r.Policy, "/") {
		selects = "Subjects:"
	}
	if len(r.Pods) > 0 {
		pods = strings.Join(r.Pods, ", ")
	}
	var text strings.Builder
	fmt.Fprintf(&text, "Policy:    %s\nIn force:  %s\n%s  %s\n", r.Policy, inForce, selects, pods)
	for _, note := range r.Notes {
		fmt.Fprintf(&text, "Note:      %s\n", note)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

// PrintJSON prints a value as indented JSON.
func PrintJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// SyncText is "yes" if a daemon is in sync, or "no: " and the reason.
func SyncText(r watch.Report) string {
	switch {
	case r.InSync:
		return "yes"
	case !r.Synced:
		return "no: waiting for the source"
	case r.LastTransaction.Error != "":
		return "no: the last transaction failed: " + r.LastTransaction.Error
	}
	return "no: a transaction is in progress"
}

// counted is a number with its noun.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprint(n, " ", many)
}

func flowsText(s flows.State) string {
	text := fmt.Sprintf("%d known, %d of at most %d in the kernel's set", s.Known, s.Held, s.Max)
	if s.Lost > 0 {
		text += fmt.Sprintf("; %d connections not counted: the set was full", s.Lost)
	}
	if s.Error != "" {
		text += "; not read: " + s.Error
	}
	return text
}

func guardText(g watch.GuardReport) string {
	if g.On != "" {
		return "denied: this node's pod addresses are " + g.On
	}
	return "allowed: " + g.Off
}

func sourceText(s watch.SourceReport) string {
	if s.AwaySince == nil {
		return s.Name
	}
	return fmt.Sprintf("%s, away for %s: %s", s.Name, time.Since(*s.AwaySince).Round(time.Second), s.Error)
}
