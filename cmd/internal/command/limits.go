// SPDX-License-Identifier: Apache-2.0

package command

import (
	"github.com/spf13/cobra"

	"github.com/netpold/netpold/translate/content"
)

// AddLimitFlags adds the flags that limit what policies may ask for.
func AddLimitFlags(cmd *cobra.Command, l *content.Limits) {
	*l = content.DefaultLimits()
	for _, flag := range []struct {
		limit *int
		name  string
		of    string
	}{
		{&l.Policies, "max-policies", "policies that isolate one pod in one direction"},
		{&l.Ports, "max-ports", "ports and port ranges of a rule"},
		{&l.Selectors, "max-selectors", "selectors in the rules for one pod"},
		{&l.Blocks, "max-cidrs", "CIDRs in the rules for one pod, including those in except"},
		{&l.Elements, "max-elements", "elements in the rules for one pod: peers × ports, CIDRs, ports"},
		{&l.Namespace, "max-namespace-elements", "elements in the policies of one namespace, on a node"},
	} {
		cmd.Flags().IntVar(flag.limit, flag.name, *flag.limit,
			"maximum number of "+flag.of+"; the excess allows nothing; 0 means no limit")
	}
}
