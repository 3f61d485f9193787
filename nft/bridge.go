// SPDX-License-Identifier: Apache-2.0

package nft

import "slices"

// A bridge is a chain that jumps to several others. While the rules that look up a key change, the key leads to a
// bridge instead of directly from one chain to the other: what either chain allows is allowed, whichever rules a packet
// follows.
//
//	k → A        k → bridge → A, B        k → bridge        k → B
//	old rules    old rules                new rules         new rules
//	             first stage              the rest          when no packet follows the old rules

// bridgeOf returns the bridge to ends.
func bridgeOf(ends []string) *Chain {
	slices.Sort(ends)
	ends = slices.Compact(ends)
	c := &Chain{Name: "bridge-" + Hash(ends...), Comment: "until the packets under way have left"}
	for _, name := range ends {
		c.Rules = append(c.Rules, R(JumpTo(name)))
	}
	return c
}

// ends returns the chains that a key leads to and that packets in flight, or another change, may need.
func (t *Table) ends(held Verdict, l late) []string {
	if !l.bridge {
		return []string{held.Chain}
	}
	if l.number <= t.settled {
		return []string{l.to.Chain}
	}
	var ends []string
	c, _ := t.chains.HeldAt(held.Chain)
	for _, r := range c.Rules {
		ends = append(ends, r.Statements[0].(Verdict).Chain)
	}
	return ends
}

// bridge leaves in an edit what happens to its keys at once. For the others it records what the kernel holds meanwhile.
func (b *batch) bridge(e *edit) {
	next := make(map[Key]Value)
	for _, a := range e.add {
		next[a.Key] = a.Value
	}
	over := edit{set: e.set}
	kept := make(map[Key]bool)
	for _, old := range e.drop {
		v, wanted := next[old.Key]
		was := e.set.late[old.Key]
		if !was.bridge && (!wanted || old.Verdict == v.Verdict) ||
			old.Verdict.Kind != Jump || wanted && v.Verdict.Kind != Jump {
			continue
		}
		now := late{number: was.number, bridge: true, to: v.Verdict}
		if b.replaces(e.set, old.Key) && (!was.bridge || was.to != now.to) {
			now.number = b.table.number
		}
		if now.number <= b.table.settled || was.bridge && was.number <= b.table.settled && was.to == (Verdict{}) {
			delete(e.set.late, old.Key)
			continue
		}
		ends := b.table.ends(old.Verdict, was)
		if wanted {
			ends = append(ends, v.Verdict.Chain)
		} else {
			v = old.Value
		}
		v.Verdict = JumpTo(b.open(bridgeOf(ends)).Name)
		if old.Verdict != v.Verdict {
			over.drop, over.add = append(over.drop, old), append(over.add, Element{old.Key, v})
		}
		kept[old.Key] = true
		put(&e.set.late, old.Key, now)
		e.set.elements.keep(old.Key, v)
	}
	if len(kept) > 0 {
		b.table.wait(e.set)
		stays := func(e Element) bool { return kept[e.Key] }
		e.drop, e.add = slices.DeleteFunc(e.drop, stays), slices.DeleteFunc(e.add, stays)
	}
	if len(over.add) > 0 {
		b.bridges = append(b.bridges, over)
	}
}

// open makes a bridge unless the kernel holds it.
func (b *batch) open(c *Chain) *Chain {
	delete(b.table.retired, c.Name) // if it was retired, it is not any more
	if held, ok := b.table.chains.HeldAt(c.Name); ok {
		return held
	}
	b.addChains = append(b.addChains, c)
	b.table.chains.Keep(c.Name, c)
	return c
}

// pin notes the chains and sets that packets may reach by bridges: they stay even if they were retired long ago.
func (b *batch) pin() {
	for _, s := range b.table.waiting {
		for k, l := range s.late {
			if v, held := s.elements.heldAt(k); held && l.bridge && l.number > b.table.settled {
				b.pinned.add(b.table, v.Verdict.Chain)
			}
		}
	}
}
