// SPDX-License-Identifier: Apache-2.0

package translate

import "github.com/netpold/netpold/nft"

// Direction is the direction of a flow as the selected pod sees it.
type Direction uint8

// The two directions. Everything that differs between them is a method of Direction.
const (
	Egress Direction = iota
	Ingress
)

// Directions returns both, in the order in which a packet meets them.
func Directions() [2]Direction { return [...]Direction{Egress, Ingress} }

// String returns "egress" or "ingress".
func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}

// Pod is the end of a flow at which the isolated pod is; the other end is the peer.
func (d Direction) Pod() nft.Side {
	if d == Egress {
		return nft.Source
	}
	return nft.Destination
}

// Peer is the far end of a flow: its source for ingress, its destination for egress.
func (d Direction) Peer() nft.Side { return d.Pod().Other() }

// allow is the verdict of what an isolation allows: ingress decides last.
func (d Direction) allow() nft.Verdict {
	if d == Egress {
		return nft.GotoChain(ingressChain)
	}
	return accept()
}
