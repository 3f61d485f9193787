// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// PodSide is the end of a packet at which the isolated pod is.
func PodSide(d policy.Direction) nft.Side {
	if d == policy.Egress {
		return nft.Source
	}
	return nft.Destination
}

// PeerSide is the far end: the source for ingress, the destination for egress.
func PeerSide(d policy.Direction) nft.Side { return PodSide(d).Other() }

// Allow is the verdict of what is allowed in a direction: ingress decides last.
func Allow(d policy.Direction) nft.Verdict {
	if d == policy.Egress {
		return nft.GotoChain(ingressChain)
	}
	return accept()
}

// Kind is the purpose of an isolation: to enforce policies in a direction, or only to audit them.
type Kind struct {
	policy.Direction
	Audit bool
}

// String returns the prefix of its chains' and sets' names: "ingress" or "audit-ingress".
func (k Kind) String() string {
	if k.Audit {
		return "audit-" + k.Direction.String()
	}
	return k.Direction.String()
}

// Allow is the verdict of what an isolation of the kind allows.
func (k Kind) Allow() nft.Verdict {
	if k.Audit {
		return nft.GotoChain(passChain(k.Direction))
	}
	return Allow(k.Direction)
}

func accept() nft.Verdict { return nft.Verdict{Kind: nft.Accept} }
