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

// Allow is the verdict of what an isolation allows: ingress decides last.
func Allow(d policy.Direction) nft.Verdict {
	if d == policy.Egress {
		return nft.GotoChain(ingressChain)
	}
	return accept()
}

func accept() nft.Verdict { return nft.Verdict{Kind: nft.Accept} }
