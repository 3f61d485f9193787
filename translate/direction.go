// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// podSide is the end of a packet at which the isolated pod is.
func podSide(d policy.Direction) nft.Side {
	if d == policy.Egress {
		return nft.Source
	}
	return nft.Destination
}

// peerSide is the far end: the source for ingress, the destination for egress.
func peerSide(d policy.Direction) nft.Side { return podSide(d).Other() }

// allow is the verdict of what an isolation allows: ingress decides last.
func allow(d policy.Direction) nft.Verdict {
	if d == policy.Egress {
		return nft.GotoChain(ingressChain)
	}
	return accept()
}
