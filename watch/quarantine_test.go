// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// object names what an operation is about, an element with its key and target; "" for deletions and the table.
func object(op nft.Op) string {
	switch op.Verb {
	case nft.AddSet:
		return "set " + op.Set.Name
	case nft.AddChain:
		return "chain " + op.Chain.Name
	case nft.AddRule:
		return "rule " + op.Chain.Name + " " + op.Rule.String()
	case nft.AddElements:
		return fmt.Sprintf("element %s %v %s", op.Set.Name, op.Elements[0].Key, op.Elements[0].Verdict)
	}
	return ""
}

// kindOf returns the kind of an object, or "" if every table has it.
func kindOf(op nft.Op) string {
	name, kind := "", object(op)
	switch {
	case kind == "":
		return ""
	case op.Set != nil:
		name = op.Set.Name
	default:
		name = op.Chain.Name
	}
	kind, _, _ = strings.Cut(kind, " ")
	_, audit := frame.OfAudit(name)
	if rest, audits := strings.CutPrefix(name, "audit-"); audits && !audit {
		name, kind = rest, "audited "+kind
	}
	parts := strings.Split(name, "-")
	switch {
	case audit:
		return kind + " that all which audits leads to"
	case len(parts) == 1: // the chain ingress
		return ""
	case parts[1] == "ports": // a chain of a direction
		return kind + " ports"
	case parts[0] == "namespaces" || parts[0] == "ports":
		return kind + " " + parts[0]
	case parts[0] == "self" || len(parts) == 3 && (parts[1] == "pods" || parts[1] == "denied"):
		if kind != "element" {
			return ""
		}
		return kind + " " + parts[0] + " " + parts[1]
	case (parts[0] == "ingress" || parts[0] == "egress") && op.Set != nil:
		return kind + " of an isolation's " + parts[2]
	case parts[0] == "ingress" || parts[0] == "egress":
		return kind + " of an isolation"
	}
	return ""
}

// quarantineCase is a random cluster of which one object is refused.
type quarantineCase struct {
	t       *testing.T
	kernel  *modelKernel
	loop    *Loop
	cluster *policy.Cluster
	flows   *random.Flows
}

func newQuarantineCase(t *testing.T, r *rand.Rand, seed uint64) *quarantineCase {
	t.Helper()
	return newCaseOf(t, r, random.Cluster(r, random.SizeOf(seed)))
}

func newCaseOf(t *testing.T, r *rand.Rand, c *policy.Cluster) *quarantineCase {
	t.Helper()
	k := newModelKernel()
	l, _ := newLoopOf(t, k, "node-1")
	return &quarantineCase{t, k, l, c, random.NewFlows(r, c, nil)}
}

// tell reports objects of the cluster to the loop.
func (c *quarantineCase) tell(which func(random.Kind) bool) {
	c.loop.Update(func(o Objects) {
		for _, e := range random.Events(c.cluster) {
			if !which(e.Kind) {
				continue
			}
			switch e.Kind {
			case random.PodKind:
				o.SetPod(e.Pod)
			case random.NamespaceKind:
				o.SetNamespace(e.Name.Name, e.Labels)
			case random.NodeKind:
				o.SetNode(e.Name.Name, e.CIDRs)
			case random.ClusterPolicyKind:
				o.SetClusterPolicy(e.ClusterPolicy)
			case random.NodePeerKind:
				o.SetNodePeer(e.NodePeer)
			default:
				o.SetPolicy(e.Policy)
			}
		}
	})
}

// right checks that the kernel treats flows as the policies say or, where they are quarantined, as the excerpt of the
// state says, and that it allows nothing that the policies do not. It returns how many flows meet a quarantine.
func (c *quarantineCase) right() (quarantined int) {
	c.t.Helper()
	table := c.kernel.tables[frame.TableName]
	if table == nil {
		c.t.Fatal("there is no table")
	}
	for range 200 {
		f := c.flows.Next()
		trail, err := trace.Follow(table, frame.PacketOf(f))
		verdict := trail.Verdict
		if err != nil {
			c.t.Fatal(err)
		}
		c.loop.mu.Lock()
		now := c.loop.state.Excerpt(f).Explain(f)
		c.loop.mu.Unlock()
		says, allowed := c.cluster.Explain(f), verdict.Kind == nft.Accept
		expected, aside := true, false
		for _, d := range [][2]policy.Decision{{says.Egress, now.Egress}, {says.Ingress, now.Ingress}} {
			if d[0].Pod == nil || d[0].Pod.Node != "node-1" {
				continue
			}
			if d[1].Quarantine == "" && d[0].Allowed != d[1].Allowed || d[1].Allowed && !d[0].Allowed {
				c.t.Fatalf("%s: the cluster says %+v, the excerpt %+v", f, d[0], d[1])
			}
			expected, aside = expected && d[1].Allowed, aside || d[1].Quarantine != ""
		}
		if allowed != expected {
			c.t.Fatalf("%s: the kernel allows it: %t, expected %t (quarantined: %t)\n%s", f, allowed,
				expected, aside, table)
		}
		if aside {
			quarantined++
		}
	}
	return quarantined
}

// settled waits, in the bubble's time, for at most a second.
func (c *quarantineCase) settled() {
	c.t.Helper()
	synctest.Wait()
	for range 20 {
		if s := c.loop.Status(); s.InSync && c.loop.quarantine.search == nil {
			return
		}
		time.Sleep(time.Second / 20)
		synctest.Wait()
	}
	c.t.Fatalf("not in sync after a second: %+v", c.loop.Status())
}

// owners returns the chains of the isolations that need an object, found by the text of the table.
func owners(table *nft.Table, op nft.Op) []string {
	name := ""
	if op.Set != nil {
		name = op.Set.Name
	} else {
		name = op.Chain.Name
	}
	var all []string
	for _, c := range table.Chains() {
		chain, audits := strings.CutPrefix(c.Name, "audit-")
		d, hash, _ := strings.Cut(chain, "-")
		if _, all := frame.OfAudit(c.Name); all {
			continue
		}
		if c.Base != nil || c.Name == "ingress" || d != "ingress" && d != "egress" ||
			strings.HasPrefix(hash, "ports-") {
			continue
		}
		hash, _, _ = strings.Cut(hash, "-")
		begin := d + "-" + hash + "-"
		if audits {
			begin = "audit-" + begin
		}
		own := strings.HasPrefix(name, begin)
		if of, all := frame.OfAudit(name); all && len(op.Elements) == 0 {
			own = audits && of.String() == d
		}
		for _, r := range c.Rules {
			own = own || strings.Contains(r.String()+" ", "@"+name+" ") ||
				strings.Contains(r.String()+" ", "jump "+name+" ")
		}
		for _, s := range table.Sets() {
			for _, e := range s.Elements() {
				own = own || strings.HasPrefix(s.Name, begin) && e.Verdict.Chain == name
			}
		}
		if len(op.Elements) == 1 && op.Elements[0].Verdict.Chain == c.Name {
			own = true
		}
		if own {
			all = append(all, c.Name)
		}
	}
	return all
}

// TestRefusedAddress: if the kernel refuses an address in a map that dispatches, wherever it would lead, the pod is
// closed in that direction, and every other pod's policies are in force. If the kernel refuses the address in every set
// of that direction, only that pod is open, and it is named; the same if it is only audited there. All of this also
// holds if the kernel does not say what it refuses.
func TestRefusedAddress(t *testing.T) {
	for seed := range uint64(6) {
		r := random.Source(seed)
		state := translate.New("node-1", translate.Options{})
		state.Add(random.Cluster(r, random.SizeOf(seed)))
		var dispatched []nft.Op
		for _, op := range state.Complete().Take().Ops {
			if op.Verb == nft.AddElements && op.Set.Type.Map && strings.HasSuffix(kindOf(op), " pods") {
				dispatched = append(dispatched, singles(op)...)
			}
		}
		if len(dispatched) == 0 {
			continue
		}
		e := dispatched[r.IntN(len(dispatched))]
		d, family, _ := strings.Cut(e.Set.Name, "-pods-")
		for name, refuses := range map[string]func(nft.Op) bool{
			"the map": func(op nft.Op) bool { return op.Set.Name == e.Set.Name },
			"all": func(op nft.Op) bool {
				of := strings.Count(op.Set.Name, "-") == 2 // not an isolation's, where it is a peer
				return of && op.Set.Type.Fields == nft.Addr && strings.HasPrefix(op.Set.Name, d)
			},
		} {
			for later := range 2 {
				for _, how := range []string{"named", "unnamed"} {
					if how == "unnamed" && name == "all" {
						continue
					}
					c := refusedAddress{
						op: e, open: name == "all", named: how == "named", later: later,
						audit:  strings.HasPrefix(e.Elements[0].Verdict.Chain, "audit-"),
						closed: fmt.Sprintf("%s-refused-%s", d, family),
						refuses: func(op nft.Op) bool {
							return op.Verb == nft.AddElements && op.Elements[0].Key == e.Elements[0].Key && refuses(op)
						},
					}
					t.Run(fmt.Sprintf("%d/%s/%d/%s", seed, name, later, how), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) { c.run(newQuarantineCase(t, random.Source(seed), seed)) })
					})
				}
			}
		}
	}
}

// refusedAddress is an address that the kernel refuses.
type refusedAddress struct {
	op      nft.Op // that dispatches it
	refuses func(one nft.Op) bool
	closed  string // the set that it is to be in
	open    bool   // it cannot be there either
	audit   bool   // it leads to what only audits, which is left out instead
	named   bool   // the kernel says what it refuses
	later   int    // 1: not in the first transaction
}

func (a *refusedAddress) run(c *quarantineCase) {
	t := c.t
	c.tell(func(k random.Kind) bool { return a.later == 0 || k != random.PolicyKind })
	if a.later == 1 {
		c.loop.Synced()
		c.settled()
	}
	no := errors.New("refused by the test")
	if a.named {
		c.kernel.refuse = func(one nft.Op) *nft.Refusal {
			if a.refuses(one) {
				return &nft.Refusal{Cause: nft.Unfit, Err: no}
			}
			return nil
		}
	} else {
		c.kernel.overall = func(tx *nft.Transaction) error {
			for _, op := range tx.Ops {
				if slices.ContainsFunc(singles(op), a.refuses) {
					return &nft.Refused{Cause: nft.Unfit, Err: no}
				}
			}
			return nil
		}
	}
	c.tell(func(k random.Kind) bool { return a.later == 0 || k == random.PolicyKind })
	c.loop.Synced()
	c.settled()
	if a.named && c.kernel.failed > 2 {
		t.Errorf("%d attempts failed", c.kernel.failed)
	}
	if !a.open {
		c.right()
	}
	want, key := book.Quarantined, a.op.Elements[0].Key
	set := c.kernel.tables[frame.TableName].FindSet(a.closed)
	switch {
	case a.audit:
		if want = book.Unaudited; set != nil && holds(set, key) {
			t.Errorf("set %s has it: %v", a.closed, set)
		}
	case a.open:
		want = book.Unenforced
	case set == nil || !holds(set, key):
		t.Errorf("set %s does not have it: %v", a.closed, set)
	}
	pod := "of pod " + strings.TrimSuffix(a.op.Elements[0].Comment, "...")
	others := func(r TroubleReport) bool { return r.Kind == "rejected" || r.Kind == "over-limit" }
	troubles := slices.DeleteFunc(c.loop.Report().Policies.Troubles, others)
	named := func(r TroubleReport) bool { return r.Kind == want.String() }
	switch {
	case a.audit: // the whole isolation may be left out for it
		if !slices.ContainsFunc(troubles, named) {
			t.Errorf("%s: %+v", pod, troubles)
		}
	case len(troubles) != 1 || troubles[0].Kind != want.String() || !strings.Contains(troubles[0].Reason, pod):
		t.Errorf("%s: %+v", pod, troubles)
	}
	c.kernel.refuse, c.kernel.overall = nil, nil
	c.loop.Status() // so that the loop sees it: its lock is what both take
	time.Sleep(3 * quarantineTime)
	c.settled()
	if n := c.right(); n > 0 || c.kernel.gaps > 0 || c.kernel.tables[frame.TableName].FindSet(a.closed) != nil {
		t.Errorf("after hours: %+v, %d times no table was in force", c.loop.Report().Policies.Troubles, c.kernel.gaps)
	}
}

func holds(s *nft.Set, k nft.Key) bool { _, held := s.Get(k); return held }

// TestQuarantine: whatever object the kernel refuses, in the first transaction or later, the policies of all pods that
// do not need it are in force at once, and the others' allow nothing. After an hour it is tried again.
func TestQuarantine(t *testing.T) {
	kinds := make(map[string]int)
	for seed := range uint64(12) {
		r := random.Source(seed)
		cluster := random.Cluster(r, random.SizeOf(seed))
		state := translate.New("node-1", translate.Options{})
		state.Add(cluster)
		byKind := make(map[string][]nft.Op)
		for _, op := range state.Complete().Take().Ops {
			for _, one := range singles(op) {
				if kind := kindOf(one); kind != "" {
					byKind[kind] = append(byKind[kind], one)
				}
			}
		}
		for _, kind := range slices.Sorted(maps.Keys(byKind)) {
			for later := range 2 {
				cause := []nft.Cause{nft.Unfit, nft.Mismatch, nft.Shortage}[(len(kinds)+int(seed)+later)%3]
				op := byKind[kind][r.IntN(len(byKind[kind]))]
				t.Run(fmt.Sprintf("%d/%s/%d/%d", seed, strings.ReplaceAll(kind, " ", "-"), later, cause),
					func(t *testing.T) {
						kinds[kind]++
						synctest.Test(t, func(t *testing.T) {
							refuseOne(newQuarantineCase(t, random.Source(seed), seed), op, later, cause,
								owners(state.Complete(), op))
						})
					})
			}
		}
	}
	t.Logf("%d kinds of objects: %v", len(kinds), kinds)
	if len(kinds) < 20 {
		t.Errorf("only %d kinds of objects: %v", len(kinds), kinds)
	}
}

// refuseOne refuses one object, until it is gone for long.
func refuseOne(c *quarantineCase, op nft.Op, later int, cause nft.Cause, owners []string) {
	t := c.t
	policies := func(k random.Kind) bool { return k == random.PolicyKind || k == random.ClusterPolicyKind }
	c.tell(func(k random.Kind) bool { return later == 0 || !policies(k) })
	if later == 1 {
		c.loop.Synced()
		c.settled()
	}
	c.kernel.refuse = func(one nft.Op) *nft.Refusal {
		if object(one) != object(op) {
			return nil
		}
		return &nft.Refusal{Cause: cause, Err: errors.New("refused by the test")}
	}
	if later == 1 {
		c.tell(policies)
	} else {
		c.loop.Synced()
	}
	c.settled()
	if c.kernel.failed == 0 || c.kernel.failed > 2 {
		t.Errorf("%d attempts failed", c.kernel.failed)
	}
	c.right()
	report := c.loop.Report()
	aside := slices.DeleteFunc(report.Policies.Troubles, func(r TroubleReport) bool {
		return r.Kind != "quarantined" && r.Kind != "unaudited"
	})
	if want := len(owners); len(aside) == 0 || want > 0 && len(aside) != want {
		t.Errorf("quarantined for %s: %+v, want %v", object(op), aside, owners)
	}
	for _, a := range aside {
		if !strings.Contains(a.Reason, "refused by the test") && cause != nft.Mismatch {
			t.Errorf("the reason does not say it: %+v", a)
		}
	}

	time.Sleep(2 * time.Minute) // a shortage is tried again by now, and the object is still refused
	c.settled()
	c.right()
	c.kernel.refuse = nil
	c.loop.Status() // so that the loop sees it: its lock is what both take
	time.Sleep(3 * quarantineTime)
	c.settled()
	if c.kernel.gaps > 0 {
		t.Errorf("%d times no table was in force", c.kernel.gaps)
	}
	if n := c.right(); n > 0 || len(c.loop.quarantine.terms) > 0 {
		t.Errorf("still quarantined after hours: %+v", c.loop.Report().Policies.Troubles)
	}
}
