// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
)

// world is a table that is edited at random, but stays valid: rules and verdicts refer to what exists.
type world struct {
	*rand.Rand
	chains map[int]*nft.Chain
	sets   map[nft.SetType]map[nft.Key]nft.Value
	types  []nft.SetType
}

func newWorld(seed uint64) *world {
	return &world{
		Rand:   rand.New(rand.NewPCG(seed, 0)),
		chains: make(map[int]*nft.Chain),
		sets:   make(map[nft.SetType]map[nft.Key]nft.Value),
		types:  setTypes(),
	}
}

const (
	worldChains = 12
	baseChains  = 2 // of these, the first ones
)

func chainName(i int) string { return fmt.Sprintf("chain-%d", i) }

// edit changes one thing.
func (w *world) edit() {
	i := w.IntN(worldChains)
	typ := w.types[w.IntN(len(w.types))]
	switch n := w.IntN(10); {
	case n == 0:
		delete(w.chains, i)
	case n < 3:
		c := &nft.Chain{Name: chainName(i), Comment: "comment of " + chainName(i)}
		if i < baseChains {
			c.Base = &nft.Base{Priority: i * 10}
		}
		for range w.IntN(4) {
			c.Rules = append(c.Rules, w.rule(i))
		}
		w.chains[i] = c
	case n == 3:
		delete(w.sets, typ)
	default:
		w.editSet(typ)
	}
}

// rule returns a rule of chain i. Chains only refer to regular chains of higher numbers.
func (w *world) rule(i int) nft.Rule {
	all := slices.Sorted(maps.Keys(rules()))
	for {
		var statements []nft.Statement
		for _, s := range rules()[all[w.IntN(len(all))]] {
			if v, isVerdict := s.(nft.Verdict); isVerdict && v.Chain != "" {
				v.Chain = chainName(max(baseChains, i+1) + w.IntN(worldChains))
				s = v
			}
			statements = append(statements, s)
		}
		if r := nft.R(statements...); w.valid(i, r) {
			r.Comment = fmt.Sprint("rule ", w.IntN(3))
			return r
		}
	}
}

// valid says whether everything that a rule of chain i refers to exists.
func (w *world) valid(i int, r nft.Rule) bool {
	for _, s := range r.Statements {
		switch s := s.(type) {
		case nft.Lookup:
			// Maps name the highest chains only.
			if w.sets[s.Type] == nil || s.Type.Map && i >= worldChains-2 {
				return false
			}
		case nft.Update: // of a set that the world does not edit
			return false
		case nft.Verdict:
			if s.Chain != "" && !w.has(s.Chain) {
				return false
			}
		}
	}
	return true
}

func (w *world) has(chain string) bool {
	for _, c := range w.chains {
		if c.Name == chain {
			return true
		}
	}
	return false
}

// editSet adds, changes or deletes an element.
func (w *world) editSet(typ nft.SetType) {
	if w.sets[typ] == nil {
		w.sets[typ] = make(map[nft.Key]nft.Value)
	}
	k := keys(typ)[w.IntN(len(keys(typ)))]
	if _, had := w.sets[typ][k]; had && w.IntN(2) == 0 {
		delete(w.sets[typ], k)
		return
	}
	v := nft.Value{Comment: fmt.Sprint("element ", w.IntN(2))}
	if typ.Map {
		v.Verdict = nft.Verdict{Kind: nft.Accept}
		if last := chainName(worldChains - 1 - w.IntN(2)); w.has(last) {
			v.Verdict = nft.GotoChain(last)
		}
	}
	w.sets[typ][k] = v
}

// repair deletes whatever refers to something missing.
func (w *world) repair() {
	for i, c := range w.chains {
		rules := slices.Clone(c.Rules)
		rules = slices.DeleteFunc(rules, func(r nft.Rule) bool { return !w.valid(i, r) })
		w.chains[i] = &nft.Chain{Name: c.Name, Comment: c.Comment, Base: c.Base, Rules: rules}
	}
	for _, set := range w.sets {
		maps.DeleteFunc(set, func(_ nft.Key, v nft.Value) bool {
			return v.Verdict.Chain != "" && !w.has(v.Verdict.Chain)
		})
	}
}

// write makes the table want the world's state.
func (w *world) write(t *nft.Table) {
	for i := range worldChains {
		if c := w.chains[i]; c != nil {
			t.SetChain(c)
		} else {
			t.DeleteChain(chainName(i))
		}
	}
	for _, typ := range w.types {
		if w.sets[typ] == nil {
			t.DeleteSet(setName(typ))
			continue
		}
		s := t.Set(setName(typ), typ, "")
		for _, e := range s.Elements() {
			if _, wanted := w.sets[typ][e.Key]; !wanted {
				s.Unwant(e.Key)
			}
		}
		for k, v := range w.sets[typ] {
			s.Want(k, v)
		}
	}
}

// Many incremental transactions give the same result as one transaction for the whole.
func TestIncrementsAddUp(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			ns := netns.Enter(t)
			w, table := newWorld(seed), nft.NewTable("t", "incremental")
			c := open(t, kernel.Config{})
			for range 8 {
				for range 20 {
					for range 1 + w.IntN(6) {
						w.edit()
					}
					w.repair()
					w.write(table)
					sameShape(t, c, table) // what is not committed does not count
					commit(t, c, table)
					sameShape(t, c, table)
					if w.IntN(3) == 0 {
						table.Reap(table.Retired())
					}
				}
				apply(t, c, table)
				got := list(t, "t")
				netns.Enter(t)
				whole := nft.NewTable("t", "incremental")
				w.write(whole)
				apply(t, open(t, kernel.Config{}), whole)
				if want := list(t, "t"); got != want {
					t.Fatalf("lists differ:\n%s", diff(got, want))
				}
				ns.Join(t)
			}
		})
	}
}

// rangeEdges returns addresses that intervals may begin or end at, ascending: at the ends of a family, and in IPv6 on
// both sides of the ends of the IPv4-mapped addresses.
func rangeEdges(f nft.Family) []netip.Addr {
	firsts := map[nft.Family][]string{
		nft.IPv4: {"0.0.0.0", "255.255.255.216"},
		nft.IPv6: {"::", "::fffe:ffff:ffec", "::ffff:255.255.255.236", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffd8"},
	}
	var edges []netip.Addr
	for _, first := range firsts[f] {
		a := addr(first)
		for range 40 {
			edges = append(edges, a)
			a = a.Next()
		}
	}
	return edges
}

// randomRanges returns disjoint intervals between edges, some of them adjacent.
func randomRanges(r *rand.Rand, f nft.Family) map[nft.Key]nft.Value {
	edges := rangeEdges(f)
	ranges := make(map[nft.Key]nft.Value)
	for i := r.IntN(4); i < len(edges); {
		last := min(i+r.IntN(1+r.IntN(len(edges))), len(edges)-1)
		ranges[nft.PairKey(edges[i], edges[last])] = nft.Value{}
		i = last + 1 + r.IntN(3)
	}
	return ranges
}

// rangeSet is an interval set that is changed at random.
type rangeSet struct {
	*rand.Rand
	conn  *kernel.Conn
	table *nft.Table
	set   *nft.Set
}

// change makes the set want other intervals and commits that.
func (s *rangeSet) change(t testing.TB) map[nft.Key]nft.Value {
	t.Helper()
	want := randomRanges(s.Rand, s.set.Type.Family)
	for k := range want {
		if s.set.Type.Map {
			want[k] = nft.Value{Verdict: nft.Verdict{Kind: nft.Accept + nft.VerdictKind(s.IntN(2))}}
		}
	}
	for _, e := range s.set.Elements() {
		s.set.Unwant(e.Key)
	}
	for k, v := range want {
		s.set.Want(k, v)
	}
	apply(t, s.conn, s.table)
	return want
}

// Whatever disjoint intervals a set goes through, the kernel has exactly the last ones.
func TestRanges(t *testing.T) {
	for _, typ := range setTypes() {
		if typ.Fields != nft.AddrRange {
			continue
		}
		t.Run(setName(typ), func(t *testing.T) {
			netns.Enter(t)
			s := rangeSet{Rand: rand.New(rand.NewPCG(1, 2)), conn: open(t, kernel.Config{}),
				table: nft.NewTable("t", "")}
			s.set = s.table.Set("s", typ, "")
			for i := range 500 {
				want := s.change(t)
				got := held(t, s.conn, s.set)
				if !maps.Equal(got, want) {
					t.Fatalf("transaction %d: kernel holds %s\nwant %s", i, show(got), show(want))
				}
			}
		})
	}
}

// held returns the kernel's elements of a set of table t.
func held(t testing.TB, c *kernel.Conn, s *nft.Set) map[nft.Key]nft.Value {
	t.Helper()
	elements, err := c.Elements(t.Context(), "t", s.Name, s.Type)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[nft.Key]nft.Value, len(elements))
	for _, e := range elements {
		if _, twice := all[e.Key]; twice {
			t.Errorf("element %v twice", e.Key)
		}
		all[e.Key] = e.Value
	}
	return all
}

// show lists intervals.
func show(ranges map[nft.Key]nft.Value) string {
	var lines []string
	for k, v := range ranges {
		lines = append(lines, fmt.Sprintf("%s-%s %s", netip.AddrFrom16(k.Addr).Unmap(),
			netip.AddrFrom16(k.To).Unmap(), v.Verdict))
	}
	slices.Sort(lines)
	return fmt.Sprint(lines)
}

// TestOutgrown: a set gets more elements than it had room for.
func TestOutgrown(t *testing.T) {
	netns.Enter(t)
	c, table := open(t, kernel.Config{}), nft.NewTable("t", "")
	s := table.Set("pods", nft.SetType{Family: nft.IPv4, Map: true, Size: 4}, "")
	for i := range 100 {
		a := netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})
		s.Want(nft.AddrKey(a), nft.Value{Verdict: nft.Verdict{Kind: nft.Accept}})
		if i%3 == 0 {
			apply(t, c, table)
		}
	}
	want := canonical(table.String())
	if got := list(t, "t"); got != want {
		t.Errorf("the kernel has\n%s\nwant\n%s", got, want)
	}
}
