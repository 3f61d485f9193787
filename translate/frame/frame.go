// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
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

// Frame is the part of a table that does not depend on the rules of policies.
type Frame struct {
	table   *nft.Table
	options Options

	// What it depends on. The frame is written anew when any of this changes.
	tiers   [4][2]int                // users, by tier and direction
	audits  [2]int                   // users of what auditing isolations lead to, by direction
	refused [2]map[netip.Addr]string // addresses that the kernel refuses in the dispatch maps, and their pods
	guard   policy.Guard

	observed []netip.Prefix // ranges whose connections are counted
	listed   bool           // the dispatch maps include pods that no policy selects

	chains map[string]struct{} // names
	sets   map[string]*nft.Set
	pods   [2]map[nft.Family]*podSets // by direction
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
		fr.refused[d] = make(map[netip.Addr]string)
	}
	if o.Observe > 0 {
		observe.Add(t, o.Observe)
		observe.SetPods(t, nil)
	}
	fr.write()
	return fr
}

// write makes the chains and sets that the frame should have, and deletes the others that it had.
func (fr *Frame) write() {
	chains, sets := fr.chains, fr.sets
	fr.chains, fr.sets = make(map[string]struct{}), make(map[string]*nft.Set)
	for _, f := range nft.Families() {
		fr.set(selfSet(f), nft.SetType{Family: f, Fields: nft.AddrAddr}, "isolated pods, each to itself")
	}
	fr.always(alwaysChain, accept())
	if fr.ingressTiers() {
		fr.always(alwaysEgressChain, Allow(policy.Egress))
	}
	fr.exempt()
	for _, d := range policy.Directions() {
		fr.pods[d] = map[nft.Family]*podSets{nft.IPv4: {}, nft.IPv6: {}}
		fr.dispatched(d)
		fr.refuse(d)
		fr.unknown(d)
		for _, t := range AllTiers() {
			fr.tier(t, d)
		}
		fr.audit(d)
		fr.shadow(d)
	}
	fr.way()
	for name := range chains {
		if _, still := fr.chains[name]; !still {
			fr.table.DeleteChain(name)
		}
	}
	for name := range sets {
		if fr.sets[name] == nil {
			fr.table.DeleteSet(name)
		}
	}
}

// use adds users (by 1, or -1) of a part of the frame that exists as long as it has any.
func (fr *Frame) use(users *int, by int) {
	before := *users
	*users += by
	if min(before, *users) == 0 {
		fr.write()
	}
}

// chain makes a chain of the frame.
func (fr *Frame) chain(name, comment string, rules ...nft.Rule) {
	fr.base(nil, name, comment, rules...)
}

// base makes a base chain of the frame.
func (fr *Frame) base(b *nft.Base, name, comment string, rules ...nft.Rule) {
	fr.chains[name] = struct{}{}
	fr.table.SetChain(&nft.Chain{Name: name, Comment: comment, Base: b, Rules: rules})
}

// set makes a set of the frame.
func (fr *Frame) set(name string, typ nft.SetType, comment string) *nft.Set {
	fr.sets[name] = fr.table.Set(name, typ, comment)
	return fr.sets[name]
}

// Reach returns what the chain of an isolation, or of a list of a tier, leads to, except for the frame's chains.
func (fr *Frame) Reach(chain string) trace.Reached {
	return trace.Reach(fr.table, chain, func(chain string) bool {
		_, of := fr.chains[chain]
		return of
	})
}

// always makes a chain of what no policy can block; self is the verdict for a pod to itself.
func (fr *Frame) always(name string, self nft.Verdict) {
	rules := []nft.Rule{nft.R(nft.NeighbourDiscovery{}, accept())}
	fr.chain(name, "what no policy can block", append(rules, fr.toItself(self)...)...)
}

// toItself returns the rules for what a pod sends to itself.
func (fr *Frame) toItself(v nft.Verdict) []nft.Rule {
	var rules []nft.Rule
	for _, f := range nft.Families() {
		rules = append(rules, nft.R(nft.LookupIn(nft.Source, fr.sets[selfSet(f)]), v))
	}
	return rules
}

// dispatched makes the maps that dispatch packets to the isolations of a direction, and the chain in which these end.
// That counts per pod: a set keeps its counts when an isolation's chain changes, or the pod gets another isolation.
func (fr *Frame) dispatched(d policy.Direction) {
	rules := fr.countDenied()
	for _, f := range nft.Families() {
		pods := fr.pods[d][f]
		pods.dispatch = fr.set(podsMap(d, f), podsType(f),
			"pods of this node, to where their "+d.String()+" is decided")
		pods.denied = fr.set(deniedSet(d, f), counterType(f), "packets that were denied, by pod of this node")
		rules = append(rules, nft.R(nft.LookupIn(PodSide(d), pods.denied)))
	}
	if fr.options.Deny == nft.Reject {
		rules = append(rules, nft.R(nft.Ports{{Proto: nft.TCP, First: 0, Last: 65535}}, nft.Verdict{Kind: nft.Reset}),
			nft.R(nft.Verdict{Kind: nft.Reject}))
	} else {
		rules = append(rules, nft.R(nft.Verdict{Kind: nft.Drop}))
	}
	fr.chain(denyChain(d), "what no policy allows; counts it in the pod's element", rules...)
}

// The priorities of base chains after those at 0. Audited ClusterNetworkPolicies for egress see what egress lets
// through, whatever ingress then decides.
const (
	egressAudited  = 1
	ingressApart   = 2
	ingressAudited = 3
)

// way makes the chains that every packet passes, with the guard if there is one.
func (fr *Frame) way() {
	forward, ingress := slices.Concat(fr.early(nft.Forward), fr.dispatch(policy.Egress)), fr.dispatch(policy.Ingress)
	if fr.apart() {
		fr.base(&nft.Base{Hook: nft.Forward, Priority: ingressApart}, forwardIngressChain, "to the pods of this node",
			slices.Concat(fr.established(), ingress)...)
		ingress = nil
	}
	fr.chain(ingressChain, "where egress isolations send what they allow",
		append(slices.Clone(ingress), nft.R(accept()))...)
	fr.base(&nft.Base{Hook: nft.Forward}, forwardChain, "from and to the pods of this node",
		append(forward, ingress...)...)
	input := fr.early(nft.Input)
	switch {
	case fr.options.PodToNode != policy.AllowPodToNode:
		input = append(input, fr.dispatch(policy.Egress)...)
	case fr.options.Observe == 0:
		return
	}
	fr.base(&nft.Base{Hook: nft.Input}, inputChain, "from the pods of this node to the node itself", input...)
}

// apart says whether ingress should have its own base chain, see [Options]. It also should if a way has more than two
// isolations, as the kernel allows 16 chains below a base chain, and after what is audited of egress. What is audited
// of ingress comes last in any case. And if an address is refused: egress accepts what a pod sends to itself, and
// ingress must still be asked.
func (fr *Frame) apart() bool {
	return fr.options.TwoWays || fr.tiers[Admin] != [2]int{} || fr.tiers[Baseline] != [2]int{} ||
		fr.shadows(policy.Egress) || fr.audits != [2]int{} || len(fr.refused[0])+len(fr.refused[1]) > 0
}

// dispatch returns the rules that send a packet to its pod's rules of tier Admin in a direction, which return if they
// do not decide, then to the pod's isolation or its rules of tier Baseline. The guard comes last.
func (fr *Frame) dispatch(d policy.Direction) []nft.Rule {
	var rules []nft.Rule
	if fr.tiers[Admin][d] > 0 {
		rules = append(rules, nft.R(nft.JumpTo(adminChain(Admin, d))))
	}
	for _, f := range nft.Families() {
		if set := fr.pods[d][f].refused; set != nil {
			rules = append(rules, nft.R(nft.LookupIn(PodSide(d), set), nft.GotoChain(refusedChain(d))))
		}
		rules = append(rules, nft.R(nft.LookupIn(PodSide(d), fr.pods[d][f].dispatch)))
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
	case k.Direction == policy.Egress && fr.ingressTiers():
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
