// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/watch"
)

func (c *cluster) statusCommand() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "status [POLICY]",
		Short: "Show whether each node is in sync, or whether a policy is in force where it is needed",
		Long: `Show for each node whether its kernel holds what the policies say, which policies are not in
force there as written and why, and what lets traffic bypass the policies. Given a NetworkPolicy as
NAMESPACE/NAME, or a ClusterNetworkPolicy as NAME, show whether every node with pods that it selects
enforces its current version for all of them.

Exit status: 0 yes, 1 no, 2 a node did not answer.`,
		Example: `  netpold status
  netpold status shop/db-allow
  netpold status shop-guard`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: c.completePolicies,
		RunE: func(cmd *cobra.Command, args []string) error {
			daemons, err := c.daemons(cmd.Context())
			if err != nil {
				return err
			}
			if len(args) == 1 {
				return c.policyStatus(cmd, args[0], daemons, output)
			}
			return c.nodesStatus(cmd, daemons, output)
		},
	}
	command.AddOutput(cmd, &output, "text or json")
	return cmd
}

// nodeStatus is one node's entry in the status of all nodes.
type nodeStatus struct {
	Node   string        `json:"node"`
	Error  string        `json:"error,omitempty"`  // why there is no status
	Status *watch.Report `json:"status,omitempty"` // as `netpold status` has it
}

// nodesStatus prints the state of all nodes.
func (c *cluster) nodesStatus(cmd *cobra.Command, daemons []daemon, output string) error {
	bare, err := c.bareNodes(cmd.Context(), daemons)
	daemons = append(daemons, daemonsOn(nil, bare)...)
	if err != nil {
		fmt.Fprintln(cmd.ErrOrStderr(), "netpold: cannot list nodes without netpold:",
			line(command.PlainText(err.Error())))
	}
	answers := c.ask(cmd.Context(), daemons, cmd.ErrOrStderr(), "status", "-o", "json")
	reports := decode[watch.Report](oneLine(answers))
	var all []nodeStatus
	inSync := true
	for _, a := range answers {
		s := nodeStatus{Node: a.node}
		if r, ok := reports[a.node]; ok {
			s.Status = &r
			inSync = inSync && r.InSync
		} else {
			s.Error = a.err.Error()
		}
		all = append(all, s)
	}
	if output == "json" {
		err = command.PrintJSON(cmd.OutOrStdout(), map[string]any{"nodes": all})
	} else {
		err = printNodes(cmd.OutOrStdout(), all)
	}
	if err != nil {
		return fmt.Errorf("print the status: %w", err)
	}
	return cmp.Or(missing(answers), command.Yes(inSync))
}

// bareNodes returns the Linux nodes without a netpold.
func (c *cluster) bareNodes(ctx context.Context, daemons []daemon) ([]string, error) {
	core, err := c.core()
	if err != nil {
		return nil, err
	}
	nodes, err := core.Nodes().List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/os!=windows"})
	if err != nil {
		return nil, err
	}
	has := make(map[string]bool, len(daemons))
	for _, d := range daemons {
		has[d.node] = true
	}
	var bare []string
	for _, n := range nodes.Items {
		if !has[n.Name] {
			bare = append(bare, n.Name)
		}
	}
	return bare, nil
}

// printNodes prints a table of the nodes, and then what is wrong, each thing once with all nodes that report it.
func printNodes(w io.Writer, all []nodeStatus) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NODE\tIN SYNC\tPODS\tISOLATED\tPOLICIES\tUP\tVERSION")
	wrong := make(map[string][]string)
	for _, s := range all {
		r := s.Status
		if r == nil {
			fmt.Fprintf(t, "%s\t?\t-\t-\t-\t-\t%s\n", s.Node, s.Error)
			continue
		}
		inSync, _, _ := strings.Cut(command.SyncText(*r), ":")
		fmt.Fprintf(t, "%s\t%s\t%d\t%d in, %d out\t%d of %d\t%s\t%s\n", s.Node, inSync, r.Pods.Node,
			r.IsolatedPods["ingress"], r.IsolatedPods["egress"], r.Policies.InEffect, r.Policies.Total,
			duration.HumanDuration(time.Since(r.Started)), shortVersion(r.Version))
		for _, text := range faults(*r) {
			wrong[text] = append(wrong[text], s.Node)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, text := range slices.Sorted(maps.Keys(wrong)) {
		if _, err := fmt.Fprintf(w, "\n%s\n  on %s\n", text, strings.Join(wrong[text], ", ")); err != nil {
			return err
		}
	}
	return nil
}

// faults lists what is wrong on a node.
func faults(r watch.Report) []string {
	var all []string
	if !r.InSync {
		_, why, _ := strings.Cut(command.SyncText(r), ": ")
		all = append(all, "Not in sync: "+why)
	}
	if r.Source.AwaySince != nil {
		all = append(all, "The API server does not answer: "+r.Source.Error)
	}
	for _, t := range r.Policies.Troubles {
		all = append(all, fmt.Sprintf("Policy %s: %s: %s", t.Kind, strings.Join(t.Policies, ", "), t.Reason))
	}
	for _, f := range r.Preflight {
		all = append(all, fmt.Sprintf("Not enforced: %s: %s\n  to fix it: %s", f.Check, f.Problem, f.Remedy))
	}
	return all
}

// shortVersion is a version without its commit.
func shortVersion(version string) string {
	short, _, _ := strings.Cut(version, " (")
	return short
}
