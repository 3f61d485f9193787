// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"

	"github.com/spf13/cobra"

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
	cmd.Flags().StringVar(&t.deny, "deny", "drop",
		"what to do with denied packets: drop, or reject (TCP reset, ICMP administratively prohibited)")
	cmd.Flags().StringVar(&t.established, "established", "keep",
		"after a policy change: keep established connections, or recheck each packet of their original direction")
	cmd.Flags().StringVar(&t.podToNode, "pod-to-node", "filter",
		"connections from a pod to its own node: filter by the pod's egress policies, or allow all")
	command.CompleteValues(cmd, "deny", "drop", "reject")
	command.CompleteValues(cmd, "established", "keep", "recheck")
	command.CompleteValues(cmd, "pod-to-node", "filter", "allow")
	cmd.Flags().Uint16Var(&t.logGroup, "log-group", 86,
		"NFLOG group for denied packets; 0 turns logging off")
	command.AddLimitFlags(cmd, &t.limits)
	t.guard.add(cmd)
}

func (t *tableFlags) options() (translate.Options, error) {
	verdicts := map[string]nft.VerdictKind{"drop": nft.Drop, "reject": nft.Reject}
	deny, known := verdicts[t.deny]
	if !known {
		return translate.Options{}, fmt.Errorf("--deny=%s: want drop or reject", t.deny)
	}
	kinds := map[string]frame.Established{"keep": frame.Keep, "recheck": frame.Recheck}
	established, known := kinds[t.established]
	if !known {
		return translate.Options{}, fmt.Errorf("--established=%s: want keep or recheck", t.established)
	}
	ways := map[string]policy.PodToNode{"filter": policy.FilterPodToNode, "allow": policy.AllowPodToNode}
	podToNode, known := ways[t.podToNode]
	if !known {
		return translate.Options{}, fmt.Errorf("--pod-to-node=%s: want filter or allow", t.podToNode)
	}
	o := translate.Options{LogGroup: t.logGroup, Deny: deny, Established: established, PodToNode: podToNode,
		Limits: t.limits}
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
