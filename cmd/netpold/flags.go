// SPDX-License-Identifier: Apache-2.0

package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/guard"
	"github.com/netpold/netpold/translate/policy"
)

// tableFlags are the operator's choices about the table.
type tableFlags struct {
	deny, established, podToNode string
	logGroup                     uint16
	limits                       content.Limits
	guard                        guardFlags
}

func (t *tableFlags) add(cmd *cobra.Command) {
	command.OneOf(&t.deny, "drop", "reject").Add(cmd, pflag.Flag{Name: "deny", DefValue: "drop",
		Usage: "what to do with denied packets: drop, or reject (TCP reset, ICMP administratively prohibited)"})
	command.OneOf(&t.established, "keep", "recheck").Add(cmd, pflag.Flag{Name: "established", DefValue: "keep",
		Usage: "after a policy change: keep established connections, or recheck each packet of their original " +
			"direction"})
	command.OneOf(&t.podToNode, "filter", "allow").Add(cmd, pflag.Flag{Name: "pod-to-node", DefValue: "filter",
		Usage: "connections from a pod to its own node: filter by the pod's egress policies, or allow all"})
	cmd.Flags().Uint16Var(&t.logGroup, "log-group", 86,
		"NFLOG group for denied packets; 0 turns logging off")
	command.AddLimitFlags(cmd, &t.limits)
	t.guard.add(cmd)
}

func (t *tableFlags) options() (translate.Options, error) {
	ways := map[string]policy.PodToNode{"filter": policy.FilterPodToNode, "allow": policy.AllowPodToNode}
	o := translate.Options{
		LogGroup:    t.logGroup,
		Deny:        map[string]nft.VerdictKind{"drop": nft.Drop, "reject": nft.Reject}[t.deny],
		Established: map[string]frame.Established{"keep": frame.Keep, "recheck": frame.Recheck}[t.established],
		PodToNode:   ways[t.podToNode],
		Limits:      t.limits,
	}
	return o, t.guard.set(&o)
}

// needs returns the kernel features that a table with these options needs.
func needs(o translate.Options) kernel.Needs {
	n := kernel.Policies
	if o.LogGroup != 0 {
		n |= kernel.Log
	}
	if o.Deny == nft.Reject {
		n |= kernel.Reject
	}
	if o.Guard.UnknownPods != guard.Allow {
		n |= kernel.Guard
	}
	if o.Observe > 0 {
		n |= kernel.Observe
	}
	return n
}
