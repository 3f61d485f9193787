// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate/policy"
)

// PacketOf returns the first packet of a flow as its hook sees it.
func PacketOf(f policy.Flow) trace.Packet {
	p := trace.Packet{
		Src: f.Src, Dst: f.Dst, Proto: f.Proto, DstPort: f.DstPort, ICMPType: f.ICMPType,
		FromNode: f.FromNode, In: f.In, Out: f.Out, DNAT: f.Service,
	}
	if f.ToNode {
		p.Hook = nft.Input
	}
	return p
}
