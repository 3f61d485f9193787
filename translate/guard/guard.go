// SPDX-License-Identifier: Apache-2.0

package guard

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// UnknownPods says what to do with pod addresses that belong to no known pod.
type UnknownPods uint8

// The choices for unknown pods.
const (
	Allow UnknownPods = iota // there is no guard
	Deny                     // there is, if pod addresses are known
	Auto                     // there is, once the container runtime has reported a pod
)

// Options are the operator's choices for the guard.
type Options struct {
	UnknownPods UnknownPods
	Ranges      []netip.Prefix // that only this node's pods use, if its Node does not tell; see [Ranges]
	Links       []string       // that only pods use, if nothing tells their addresses; see [policy.Guard]
}

// Guard is what a state knows about the guard of its table.
type Guard struct {
	options  Options
	podCIDRs []netip.Prefix // of the node
	outside  int            // addresses of the node's pods outside podCIDRs
	reached  bool           // the container runtime has reported a pod
}

// New returns the guard of a node about which nothing is known yet.
func New(o Options) Guard { return Guard{options: o} }

// Ranges returns prefixes in the form of a [policy.Guard].
func Ranges(prefixes []netip.Prefix) []netip.Prefix {
	var all []netip.Prefix
	for _, p := range prefixes {
		all = append(all, p.Masked())
	}
	return nft.Outermost(all)
}

// SetPodCIDRs sets the spec.podCIDRs of the node; none if it is gone. The caller must count its pods' addresses again.
func (g *Guard) SetPodCIDRs(podCIDRs []netip.Prefix) { g.podCIDRs, g.outside = Ranges(podCIDRs), 0 }

// NodePodCIDRs returns the spec.podCIDRs of the node.
func (g *Guard) NodePodCIDRs() []netip.Prefix { return g.podCIDRs }

// SetReached notes that the container runtime has reported a pod.
func (g *Guard) SetReached() { g.reached = true }

// Reached says whether the container runtime has reported a pod.
func (g *Guard) Reached() bool { return g.reached }

// Count counts a pod address of the node that comes (by 1) or goes (by -1).
func (g *Guard) Count(a netip.Addr, by int) {
	if !slices.ContainsFunc(g.podCIDRs, func(p netip.Prefix) bool { return p.Contains(a) }) {
		g.outside += by
	}
}

// PodCIDRs returns the node's pod CIDRs if all of its pods are in them; otherwise none.
func (g *Guard) PodCIDRs() []netip.Prefix {
	if g.outside > 0 {
		return nil
	}
	return g.podCIDRs
}

// Wanted returns the guard that the table should have.
func (g *Guard) Wanted() policy.Guard {
	switch o := g.options; {
	case !g.asked():
	case len(g.PodCIDRs()) > 0:
		return policy.Guard{Ranges: g.PodCIDRs()}
	case len(o.Ranges) > 0:
		return policy.Guard{Ranges: o.Ranges}
	case len(o.Links) > 0:
		return policy.Guard{Links: o.Links}
	}
	return policy.Guard{}
}

// asked says whether there should be a guard, provided that pod addresses are known.
func (g *Guard) asked() bool {
	return g.options.UnknownPods == Deny || g.options.UnknownPods == Auto && g.reached
}

// Unsure says that there is no guard only because the node's pod addresses are not known.
func (g *Guard) Unsure() bool {
	w := g.Wanted()
	return g.asked() && !w.On()
}

// Off says why there is no guard; "" if there is one.
func (g *Guard) Off() string {
	switch {
	case g.options.UnknownPods == Allow:
		return "--unknown-pods=allow"
	case !g.asked():
		return "the container runtime has not reported a pod yet"
	case !g.Unsure():
		return ""
	case len(g.podCIDRs) > 0:
		return fmt.Sprintf("%d pod addresses of the node are outside its spec.podCIDRs, %s",
			g.outside, policy.Guard{Ranges: g.podCIDRs})
	}
	return "the Node has no spec.podCIDRs"
}
