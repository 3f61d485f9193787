// SPDX-License-Identifier: Apache-2.0

// Package cases reads the golden cases of translate/testdata: a cluster, the flows that its policies allow or deny, and
// the ruleset of one node, in one file that a person can review. A case is a txtar archive:
//
//	# Pods of one namespace are let in, others are not.
//	#
//	# Whatever else an operator should know about it.
//	node: worker-1
//	flags: --deny=reject
//	-- cluster.yaml --
//	manifests, as `kubectl get -o yaml` prints them
//	-- flows --
//	allow shop/client -> shop/web:80/tcp   # why
//	deny  10.1.2.3    -> shop/web:80/tcp
//	audit shop/probe  -> shop/web:80/tcp   # allowed, and audited policies would deny it
//	-- errors --
//	what `netpold render` reports, one a line
//	-- table.nft --
//	what `netpold render` prints
//
// Without a node line, it is the first pod's node; without a flags line, the flags are the defaults of `netpold
// render`. Errors and table.nft are written by
//
//	go test ./translate -run Golden -update
//
// and the rest by hand. A flow is the first packet of a connection as the node forwards it, after a Service's address
// has been replaced with a pod's. Its verdict is that of the whole cluster: the nodes of both ends together. An end is
// one of
//
//	shop/web            a pod, in each family that both ends have; shop/web[4] and shop/web[6] in one of them
//	10.1.2.3            an address; an IPv6 address stands in brackets
//	node                the node of the pod at the other end; pods reach it at 192.0.0.8 and 100::8
//
// and what the destination is asked for is one of
//
//	:80/tcp             a port of TCP, UDP or SCTP
//	:icmp               a ping, of the family's protocol
//	:icmp/135           another type of message of that protocol
//	:protocol/47        a protocol without ports, by its number
package cases
