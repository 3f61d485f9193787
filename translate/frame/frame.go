// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/observe"
	"github.com/netpold/netpold/translate/policy"
)

// Limits on the logging of denied packets.
const (
	logRate    = 100 // packets a second, for each isolation
	logBurst   = 200 // packets
	logSnaplen = 128 // bytes: the headers, including those quoted in an ICMP error
)

// Established says what happens to a connection that was allowed when it began; the specification leaves that to
// implementations.
type Established uint8

// The effect of a policy change on live connections.
const (
	Keep    Established = iota // they keep flowing
	Recheck                    // each packet of the original direction is checked against the current policies
)

// Options are the operator's choices for the frame.
type Options struct {
	LogGroup    uint16          // nfnetlink_log group that drops go to; 0 logs nothing
	Deny        nft.VerdictKind // nft.Drop, or nft.Reject to tell the sender
	Established Established
	PodToNode   policy.PodToNode
	Observe     uint32 // maximum number of counted flows per family; 0 counts none, see package observe

	// TwoWays gives ingress a base chain of its own. A kernel that walks every way through the chains at a commit then
	// has the sum of egress and ingress ways, not their product.
	TwoWays bool
}

// Frame is the part of a table that does not depend on the policies.
type Frame struct {
	table   *nft.Table
	options Options

	tiers  [4][2]int // users of [Frame.OpenTier], by tier and direction
	audits [2]int    // users of [Frame.OpenAudit], by direction

	refused int // sets of addresses that the kernel refuses in the dispatch maps

	observed []netip.Prefix // ranges whose connections are counted

	apart  bool         // ingress has a base chain of its own
	listed bool         // the dispatch maps include pods that no policy selects
	guard  policy.Guard // as in the rules
}

// roomForPods is how many IPv4 addresses of pods the maps have room for at first, several times as many as kubelets
// run. The kernel finds one in a hash of fixed size in two thirds of the time that it takes in one that grows, if keys
// have 4 bytes.
const roomForPods = 8192

// podsType is the type of a map of pods of this node.
func podsType(f nft.Family) nft.SetType {
	t := nft.SetType{Family: f, Fields: nft.Addr, Map: true}
	if f == nft.IPv4 {
		t.Size = roomForPods
	}
	return t
}

// New makes a table's frame: the way of a packet, the maps that dispatch it to the isolations of its pods, what is
// always allowed, and how the rest is denied.
//
// The way is: the isolation of the source, the isolation of the destination, accept. The base chain looks up both, so
// that packets of pods that no policy selects take no jump. What an egress isolation allows goes to the chain ingress
// and never returns: a goto out of a chain that was jumped to ends where ingress does.
func New(t *nft.Table, o Options) *Frame {
	fr := &Frame{table: t, options: o}
	for _, d := range policy.Directions() {
		for _, f := range nft.Families() {
			t.Set(podsMap(d, f), podsType(f),
				"pods of this node, to where their "+d.String()+" is decided")
		}
		t.SetChain(fr.denyChain(d))
	}
	for _, f := range nft.Families() {
		t.Set(selfSet(f), nft.SetType{Family: f, Fields: nft.AddrAddr}, "isolated pods, each to itself")
	}
	fr.setAlways(alwaysChain, accept())
	if o.Observe > 0 {
		observe.Add(t, o.Observe)
		observe.SetPods(t, nil)
	}
	fr.setWay()
	return fr
}

// setAlways makes a chain of what no policy can block; self is the verdict for a pod to itself.
func (fr *Frame) setAlways(name string, self nft.Verdict) {
	always := &nft.Chain{
		Name: name, Comment: "what no policy can block",
		Rules: []nft.Rule{nft.R(nft.NeighbourDiscovery{}, accept())},
	}
	for _, f := range nft.Families() {
		always.Rules = append(always.Rules, nft.R(nft.LookupIn(nft.Source, fr.table.FindSet(selfSet(f))), self))
	}
	fr.table.SetChain(always)
}

// setWay makes the chains that every packet passes, with the guard if there is one.
func (fr *Frame) setWay() {
	for _, d := range policy.Directions() {
		fr.setUnknown(d)
	}
	forward, ingress := slices.Concat(fr.early(nft.Forward), fr.dispatch(policy.Egress)), fr.dispatch(policy.Ingress)
	if fr.apart = fr.wantApart(); fr.apart {
		fr.table.SetChain(&nft.Chain{
			Name: forwardIngressChain, Comment: "to the pods of this node",
			Base: &nft.Base{Hook: nft.Forward, Priority: ingressApart}, Rules: slices.Concat(fr.established(), ingress),
		})
		ingress = nil
	} else {
		fr.table.DeleteChain(forwardIngressChain)
	}
	fr.table.SetChain(&nft.Chain{
		Name: ingressChain, Comment: "where egress isolations send what they allow",
		Rules: append(slices.Clone(ingress), nft.R(accept())),
	})
	fr.table.SetChain(&nft.Chain{
		Name: forwardChain, Comment: "from and to the pods of this node", Base: &nft.Base{Hook: nft.Forward},
		Rules: append(forward, ingress...),
	})
	input := &nft.Chain{
		Name: inputChain, Comment: "from the pods of this node to the node itself", Base: &nft.Base{Hook: nft.Input},
		Rules: fr.early(nft.Input),
	}
	switch {
	case fr.options.PodToNode != policy.AllowPodToNode:
		input.Rules = append(input.Rules, fr.dispatch(policy.Egress)...)
	case fr.options.Observe == 0:
		return
	}
	fr.table.SetChain(input)
}

// The priorities of base chains after those at 0. Audited ClusterNetworkPolicies for egress see what egress lets
// through, whatever ingress then decides.
const (
	egressAudited  = 1
	ingressApart   = 2
	ingressAudited = 3
)

// wantApart says whether ingress should have its own base chain, see [Options]. It also should if a way has more than
// two isolations, as the kernel allows 16 chains below a base chain, and after what is audited of egress. What is
// audited of ingress comes last in any case. And if an address is refused: egress accepts what a pod sends to itself,
// and ingress must still be asked.
func (fr *Frame) wantApart() bool {
	return fr.options.TwoWays || fr.tiers[Admin] != [2]int{} || fr.tiers[Baseline] != [2]int{} ||
		fr.shadows(policy.Egress) || fr.audits != [2]int{} || fr.refused > 0
}

// regardWay rebuilds the way if ingress gets or loses its own base chain.
func (fr *Frame) regardWay() {
	if fr.apart != fr.wantApart() {
		fr.setWay()
	}
}

// dispatch returns the rules that send a packet to its pod's rules of tier Admin in a direction, which return if they
// do not decide, then to the pod's isolation or its rules of tier Baseline. The guard comes last.
func (fr *Frame) dispatch(d policy.Direction) []nft.Rule {
	var rules []nft.Rule
	if fr.tiers[Admin][d] > 0 {
		rules = append(rules, nft.R(nft.JumpTo(adminChain(Admin, d))))
	}
	for _, f := range nft.Families() {
		if set := fr.table.FindSet(refusedSet(d, f)); set != nil {
			rules = append(rules, nft.R(nft.LookupIn(PodSide(d), set), nft.GotoChain(refusedChain(d))))
		}
		rules = append(rules, nft.R(nft.LookupIn(PodSide(d), fr.table.FindSet(podsMap(d, f)))))
	}
	return append(rules, fr.guardRules(d)...)
}

// early returns the first rules: established connections, and the count of new ones.
func (fr *Frame) early(h nft.Hook) []nft.Rule {
	rules := fr.established()
	if fr.options.Observe > 0 {
		rules = append(rules, observe.Rule(h))
	}
	return rules
}

// established returns the rules for what passes without a look at the policies.
func (fr *Frame) established() []nft.Rule {
	if fr.options.Established == Recheck {
		return []nft.Rule{
			nft.R(nft.CtState{nft.Related}, accept()),
			nft.R(nft.CtState{nft.Established}, nft.CtReply{}, accept()),
		}
	}
	return []nft.Rule{nft.R(nft.CtState{nft.Established, nft.Related}, accept())}
}

// countDenied returns the first rule of a chain that denies everything, if there is one.
func (fr *Frame) countDenied() []nft.Rule {
	if fr.options.Observe == 0 {
		return nil
	}
	return []nft.Rule{observe.DeniedRule()}
}

// ObservedBy says whether connections are counted by these ranges, if any are.
func (fr *Frame) ObservedBy(ranges []netip.Prefix) bool {
	return fr.options.Observe == 0 || slices.Equal(fr.observed, ranges)
}

// ObserveBy makes connections be counted by ranges; see [observe.SetPods].
func (fr *Frame) ObserveBy(ranges []netip.Prefix) {
	if !fr.ObservedBy(ranges) {
		fr.observed = ranges
		observe.SetPods(fr.table, ranges)
	}
}

// Tail returns the last rules of an isolation's chain: always allowed, log, count, deny; or pass, if it only audits.
func (fr *Frame) Tail(k Kind, chain string) []nft.Rule {
	always, end := alwaysChain, denyChain(k.Direction)
	switch {
	case k.Audit:
		always, end = auditExemptChain(k.Direction), auditChain(k.Direction)
	case k.Direction == policy.Egress && fr.tiersOf(policy.Ingress) > 0:
		always = alwaysEgressChain
	}
	rules := append([]nft.Rule{nft.R(nft.JumpTo(always))}, fr.log(chain)...)
	return append(rules, nft.R(nft.Counter{}, nft.GotoChain(end)))
}

// log returns the rule that logs what a chain denies, if there is one.
func (fr *Frame) log(chain string) []nft.Rule {
	if fr.options.LogGroup == 0 {
		return nil
	}
	return []nft.Rule{nft.R(nft.Limit{Rate: logRate, Burst: logBurst},
		nft.Log{Prefix: chain, Group: fr.options.LogGroup, Snaplen: logSnaplen})}
}

// denyChain returns the chain in which the isolations of a direction end. It counts per pod: a set keeps its counts
// when an isolation's chain changes, or the pod gets another isolation.
func (fr *Frame) denyChain(d policy.Direction) *nft.Chain {
	c := &nft.Chain{Name: denyChain(d), Comment: "what no policy allows; counts it in the pod's element",
		Rules: fr.countDenied()}
	add := func(statements ...nft.Statement) { c.Rules = append(c.Rules, nft.R(statements...)) }
	for _, set := range DeniedSets() {
		if set.Direction == d {
			add(nft.LookupIn(PodSide(d), fr.table.Set(set.Name, set.Type,
				"packets that were denied, by pod of this node")))
		}
	}
	if fr.options.Deny == nft.Reject {
		add(nft.Ports{{Proto: nft.TCP, First: 0, Last: 65535}}, nft.Verdict{Kind: nft.Reset})
		add(nft.Verdict{Kind: nft.Reject})
		return c
	}
	add(nft.Verdict{Kind: nft.Drop})
	return c
}

// Shared says whether a chain belongs to the frame and isolations lead to it.
func Shared(chain string) bool {
	switch chain {
	case alwaysChain, alwaysEgressChain, ingressChain, exemptChain, denyChain(policy.Egress), denyChain(policy.Ingress):
		return true
	}
	for _, t := range AllTiers() {
		for _, d := range policy.Directions() {
			if chain == tierDenyChain(t, d) {
				return true
			}
		}
	}
	_, audit := OfAudit(chain)
	return audit
}
