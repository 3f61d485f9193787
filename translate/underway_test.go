// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/stages"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/tier"
)

// TestUnderWay sends packets through a model of the kernel while it commits the transactions of random events: they
// follow the old rules, and after any number of lookups the elements change to the new ones. What is allowed before and
// after an event passes.
func TestUnderWay(t *testing.T) {
	u := underWay{}
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		g := random.NewGenerator(r, random.SizeOf(seed))
		c := g.Cluster()
		s := build(c, node, unlimited(seed))
		u.kernel = model{}
		if err := u.kernel.settle(s.Complete()); err != nil {
			return err
		}
		for step := range 15 {
			before := *c
			e := g.Event(c)
			e.Apply(s)
			e.ApplyTo(c)
			o := unlimited(seed)
			both := slices.DeleteFunc(decidedBy(r, guard(&before, node, o), guard(c, node, o)),
				func(d decided) bool { return !d.passes }) // what an event before has allowed may pass still
			if err := u.commit(r, s, both); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
		}
		return nil
	})
	t.Logf("%d packets", u.packets)
}

// TestUnderWayRules is [TestUnderWay] with events that change, at once, which rules and kinds of match allow a few
// pods.
func TestUnderWayRules(t *testing.T) {
	u := underWay{}
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		c := &policy.Cluster{Namespaces: map[string]map[string]string{"shop": {}}}
		s := build(c, node, translate.Options{WideFrom: int(seed % 4)})
		var flows []policy.Flow
		for i := range byte(4) {
			a := netip.AddrFrom4([4]byte{10, 0, 0, i})
			p := policy.Pod{
				NamespacedName: types.NamespacedName{Namespace: "shop", Name: fmt.Sprint("pod-", i)},
				Node:           []string{node, "other"}[min(i, 1)], IPs: []netip.Addr{a}, Running: true,
			}
			c.Pods = append(c.Pods, p)
			s.SetPod(p)
			for _, port := range []uint16{1, 80, 1000, 1700, 2500} {
				flows = append(flows, policy.Flow{
					Src: a, Dst: netip.AddrFrom4([4]byte{10, 0, 0, 0}), Proto: nft.TCP, DstPort: port,
				})
			}
		}
		u.kernel = model{}
		for step := range 15 {
			before := *c
			before.Policies, before.Pods = slices.Clone(c.Policies), slices.Clone(c.Pods)
			relabel(r, c, s)
			replacePolicies(r, c, s)
			var both []decided
			for _, f := range flows {
				if before.Explain(f).Allowed && c.Explain(f).Allowed {
					both = append(both, decided{f, true})
				}
			}
			if err := u.commit(r, s, both); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
		}
		return nil
	})
	t.Logf("%d packets", u.packets)
}

// relabel adds a label to pods of another node or removes it.
func relabel(r *rand.Rand, c *policy.Cluster, s *translate.State) {
	for i := range c.Pods {
		if p := &c.Pods[i]; p.Node != node && r.IntN(3) == 0 {
			p.Labels = map[string]string{"app": []string{"client", "other"}[r.IntN(2)]}
			s.SetPod(*p)
		}
	}
}

// replacePolicies changes a policy of two, or both.
func replacePolicies(r *rand.Rand, c *policy.Cluster, s *translate.State) {
	names := []string{"one", "two"}[:1+r.IntN(2)]
	for _, name := range names {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
		for range r.IntN(4) {
			np.Spec.Ingress = append(np.Spec.Ingress, randomRule(r))
		}
		c.Policies = append(slices.DeleteFunc(slices.Clone(c.Policies), func(old *networkingv1.NetworkPolicy) bool {
			return old.Name == name
		}), np)
		_ = s.SetPolicy(np)
	}
}

// randomRule returns a rule of a few peers and ports that overlap.
func randomRule(r *rand.Rand) networkingv1.NetworkPolicyIngressRule {
	var rule networkingv1.NetworkPolicyIngressRule
	switch r.IntN(5) {
	case 0, 1:
		client := &metav1.LabelSelector{MatchLabels: map[string]string{"app": "client"}}
		rule.From = []networkingv1.NetworkPolicyPeer{{PodSelector: client}}
	case 2:
		rule.From = []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{}}}
	case 3:
		rule.From = []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/31"}}}
	}
	ends := [][2]int32{{1, 2000}, {1500, 3000}, {1, 3000}, {80, 80}, {900, 1800}}
	for range r.IntN(3) {
		end := ends[r.IntN(len(ends))]
		first := intstr.FromInt32(end[0])
		rule.Ports = append(rule.Ports, networkingv1.NetworkPolicyPort{Port: &first, EndPort: &end[1]})
	}
	return rule
}

// underWay is a kernel that packets pass while it commits.
type underWay struct {
	kernel  model
	packets int
}

// decided is a flow, and whether its packets pass meanwhile.
type decided struct {
	policy.Flow
	passes bool
}

// commit commits what is pending, and now and then deletes what is retired, while packets of flows are in flight.
func (u *underWay) commit(r *rand.Rand, s *translate.State, flows []decided) error {
	var transactions []*nft.Transaction
	for more := true; more; {
		var table *nft.Table
		table, more = s.Portion(math.MaxInt)
		transactions = append(transactions, table.Take())
	}
	if r.IntN(3) == 0 {
		s.Complete().Reap(s.Complete().Retired())
		transactions = append(transactions, s.Complete().Take())
	}
	for _, tx := range transactions {
		for _, stage := range stages.Of(tx) {
			old := u.kernel.clone()
			if err := u.kernel.apply(stage); err != nil {
				return fmt.Errorf("%w in\n%s", err, tx)
			}
			for _, f := range flows {
				for n := 0; ; n++ {
					p := packet{flow: f.Flow, old: old, now: &u.kernel, flip: n}
					if u.packets++; p.passes() != f.passes {
						return fmt.Errorf("%s passes: %t, when it has made %d of %d lookups and the kernel commits\n"+
							"%s\nin %s\nand %s", f, !f.passes, n, p.lookups, stage, old, &u.kernel)
					}
					if n > p.lookups {
						break
					}
				}
			}
		}
	}
	return nil
}

// decidedBy returns flows that all clusters treat the same in each direction.
func decidedBy(r *rand.Rand, all ...*policy.Cluster) []decided {
	var both []decided
	flows := random.NewFlows(r, all[len(all)-1], nil)
	for range 30 {
		f := flows.Next()
		var count [2]int // of the clusters that allow it, by direction
		unknown := false
		for _, c := range all {
			e := c.Explain(f)
			for _, d := range []policy.Decision{e.Egress, e.Ingress} {
				if d.Pod == nil || d.Pod.Node != node || d.Allowed {
					count[d.Direction]++
				}
				unknown = unknown || d.Unknown
			}
		}
		switch {
		case unknown: // the guard is of another rule
		case f.Src == f.Dst && !f.Service: // never leaves its pod
		case count == [2]int{len(all), len(all)}:
			both = append(both, decided{f, true})
		case count[0] == 0 || count[1] == 0:
			both = append(both, decided{f, false})
		}
	}
	return both
}

// TestUnderWayTiers is [TestUnderWay] with events that change several policies of all tiers at once: each tier decides
// either as before or as after.
func TestUnderWayTiers(t *testing.T) {
	u := underWay{}
	mixed := 0
	forSeeds(t, func(seed uint64) error {
		r := random.Source(seed)
		g := random.NewGenerator(r, random.SizeOf(seed))
		c := g.Cluster()
		g.AddTiers(c)
		o := unlimited(seed)
		o.WideFrom, o.TierBounds = int(seed%4), tier.DefaultBounds()
		if seed%2 == 0 {
			o.TierBounds.Elements = int(seed / 2 % 30)
		}
		s := build(c, node, o)
		u.kernel = model{}
		if err := u.kernel.settle(s.Complete()); err != nil {
			return err
		}
		for step := range 8 {
			if err := u.kernel.settle(s.Complete()); err != nil { // what was allowed before passes until then
				return err
			}
			before := *c
			for changed := 0; changed < 3; {
				if e := g.Event(c); e.Kind == random.PolicyKind || e.Kind == random.ClusterPolicyKind {
					e.Apply(s)
					e.ApplyTo(c)
					changed++
				}
			}
			all := mixtures(&before, c)
			mixed += len(all) - 1
			for i := range all {
				all[i] = guard(all[i], node, o)
			}
			if err := u.commit(r, s, decidedBy(r, all...)); err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
		}
		return nil
	})
	t.Logf("%d packets, %d mixtures", u.packets, mixed)
}

// mixtures returns the clusters with each tier, and the NetworkPolicies, of one or of the other.
func mixtures(one, other *policy.Cluster) []*policy.Cluster {
	var all []*policy.Cluster
	from := func(bit, i int) *policy.Cluster {
		if i>>bit&1 == 0 {
			return one
		}
		return other
	}
	for i := range 8 {
		c := *other
		c.ClusterPolicies = nil
		for bit, t := range []v1alpha2.Tier{v1alpha2.AdminTier, v1alpha2.BaselineTier} {
			for _, p := range from(bit, i).ClusterPolicies {
				if p.Tier() == t {
					c.ClusterPolicies = append(c.ClusterPolicies, p)
				}
			}
		}
		c.Policies = from(2, i).Policies
		all = append(all, &c)
	}
	return all
}

// clone returns a copy that does not change.
func (m *model) clone() *model {
	c := &model{m.exists, m.comment, make(map[string]*modelSet), make(map[string]*modelChain)}
	for name, s := range m.sets {
		c.sets[name] = &modelSet{s.typ, s.comment, maps.Clone(s.elements)}
	}
	for name, chain := range m.chains {
		c.chains[name] = &modelChain{chain.head, slices.Clone(chain.rules)}
	}
	return c
}

// packet is in flight while the kernel goes from old to now.
type packet struct {
	flow     policy.Flow
	old, now *model
	flip     int // after how many lookups it does
	lookups  int
}

// passes follows the packet through the base chains of the forward hook that decide.
func (p *packet) passes() bool {
	return p.chain("forward").Kind != nft.Drop && p.chain("forward-ingress").Kind != nft.Drop
}

// chain returns Accept, Drop, or Continue at the end of a chain. The old generation has no rules of a new chain.
func (p *packet) chain(name string) nft.Verdict {
	chain := p.old.chains[name]
	if chain == nil {
		return nft.Verdict{}
	}
	for _, r := range chain.rules {
		switch v := p.rule(r); v.Kind {
		case nft.Accept:
			return v
		case nft.Return:
			return nft.Verdict{}
		case nft.Drop, nft.Reject, nft.Reset:
			return nft.Verdict{Kind: nft.Drop}
		case nft.Jump, nft.Goto:
			if end := p.chain(v.Chain); end.Kind != nft.Continue || v.Kind == nft.Goto {
				return end
			}
		}
	}
	return nft.Verdict{}
}

// rule returns the verdict of a rule, or Continue.
func (p *packet) rule(r nft.Rule) nft.Verdict {
	var verdict nft.Verdict
	for _, statement := range r.Statements {
		matches := true
		switch s := statement.(type) {
		case nft.Lookup:
			var v nft.Value
			if v, matches = p.lookUp(s); s.Type.Map {
				verdict = v.Verdict
			}
		case nft.OfFamily:
			matches = nft.FamilyOf(p.flow.Src) == s.Family
		case nft.Ports:
			matches = s.Contains(p.flow.Proto, p.flow.DstPort)
		case nft.NeighbourDiscovery:
			matches = p.flow.Proto == nft.ICMPv6 && p.flow.Src.Is6() &&
				nft.FirstNDType <= p.flow.ICMPType && p.flow.ICMPType <= nft.LastNDType
		case nft.AddrIn:
			matches = s.Prefix.Contains(p.end(s.Side))
		case nft.AddrType:
			matches = s.Kind == nft.Multicast && p.end(s.Side).IsMulticast()
		case nft.CtState, nft.CtReply:
			matches = false
		case nft.CtDNAT:
			matches = p.flow.Service
		case nft.Verdict:
			verdict = s
		}
		if !matches {
			return nft.Verdict{}
		}
	}
	return verdict
}

// end returns the address at an end.
func (p *packet) end(side nft.Side) netip.Addr {
	if side == nft.Source {
		return p.flow.Src
	}
	return p.flow.Dst
}

// set returns the current set, or nil: the elements of a deleted map are not found.
func (p *packet) set(name string) *modelSet {
	m := p.old
	if p.lookups >= p.flip {
		m = p.now
	}
	p.lookups++
	return m.sets[name]
}

func (p *packet) lookUp(l nft.Lookup) (nft.Value, bool) {
	set := p.set(l.Set)
	if set == nil || !l.Type.OfPorts() && nft.FamilyOf(p.flow.Src) != l.Type.Family ||
		l.Type.OfPorts() && p.flow.Proto != l.Proto {
		return nft.Value{}, false
	}
	one, other := p.end(l.Side), p.end(l.Side.Other())
	k := nft.AddrKey(one)
	switch l.Type.Fields {
	case nft.Port, nft.PortInterval:
		k = nft.Key{Port: p.flow.DstPort}
	case nft.AddrAddr:
		k = nft.PairKey(one, other)
	case nft.AddrProtoPort:
		k = nft.PortKey(one, p.flow.Proto, p.flow.DstPort)
	}
	if !l.Type.Interval() {
		v, found := set.elements[k]
		return v, found
	}
	for have, v := range set.elements {
		if set.typ.Finds(k, have) {
			return v, true
		}
	}
	return nft.Value{}, false
}
