// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/explain"
)

// ExplainFlags are the flags that every `explain` has.
type ExplainFlags struct {
	Rules, Verify bool
	Output        string
	Limits        content.Limits
}

// Add adds the flags to a command.
func (f *ExplainFlags) Add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.Rules, "rules", false, "also print the nftables rules that the flow matches")
	cmd.Flags().BoolVar(&f.Verify, "verify", false, "also print the rules, and compare them with the kernel's")
	AddOutput(cmd, &f.Output, "text or json")
	AddLimitFlags(cmd, &f.Limits)
}

// Explain answers for a known cluster. It builds the nodes' tables only if they matter.
func (f *ExplainFlags) Explain(cluster *policy.Cluster, src, dst string) (explain.Answer, error) {
	flows, err := cluster.ParseFlows(src, dst)
	if err != nil {
		return explain.Answer{}, err
	}
	var e explain.Answer
	for _, flow := range flows {
		var of []translate.NodeTrace
		if f.Rules || f.Limits != content.DefaultLimits() {
			if of, err = traces(cluster, flow, translate.Options{Limits: f.Limits}); err != nil {
				return explain.Answer{}, err
			}
		}
		text, err := explain.Flow(cluster, flow, of)
		if err != nil {
			return explain.Answer{}, err
		}
		e.Add(text)
	}
	return e, nil
}

// Print prints an answer, and returns [ErrNo] if a flow is denied.
func (f *ExplainFlags) Print(w io.Writer, e explain.Answer) error {
	if f.Output == "json" {
		if err := PrintJSON(w, e); err != nil {
			return fmt.Errorf("print the answer: %w", err)
		}
		w = io.Discard
	}
	missing := f.print(w, e)
	if missing > 0 {
		return fmt.Errorf("the kernel differs from what the daemon says in %d places: try again; if it "+
			"persists, please report it", missing)
	}
	return Yes(e.Allowed)
}

// print prints an answer, and returns the number of places where the kernel differs.
func (f *ExplainFlags) print(w io.Writer, e explain.Answer) (missing int) {
	for _, flow := range e.Flows {
		fmt.Fprint(w, flow.Text)
		if f.Rules || f.Verify {
			for _, node := range flow.Nodes {
				missing += printRules(w, node)
			}
		}
	}
	return missing
}

// printRules prints the rules that a flow matches on a node, and returns how many of them the kernel lacks.
func printRules(w io.Writer, node explain.NodeText) (missing int) {
	fmt.Fprintf(w, "  rules on node %s:\n", node.Node)
	for _, rule := range node.Rules {
		fmt.Fprintf(w, "    %s: %s", rule.Chain, rule.Rule)
		if rule.Element != "" {
			fmt.Fprintf(w, " { %s }", rule.Element)
		}
		fmt.Fprintln(w)
		switch {
		case rule.Missing:
			fmt.Fprintf(w, "      kernel: DIFFERS: %s\n", rule.Kernel)
			missing++
		case rule.Kernel != "":
			fmt.Fprintf(w, "      kernel: %s\n", rule.Kernel)
		}
	}
	for _, difference := range node.Differs {
		fmt.Fprintf(w, "    kernel: DIFFERS: %s\n", difference)
	}
	fmt.Fprintf(w, "    verdict: %s\n", node.Verdict)
	return missing + len(node.Differs)
}
