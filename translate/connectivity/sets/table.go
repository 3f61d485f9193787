// SPDX-License-Identifier: Apache-2.0

package sets

// PortsID is a set of ports of a [PortTable].
type PortsID int32

// The sets that every table has.
const (
	NoPorts PortsID = iota
	AllPorts
)

// ListID is a list of sets of a [PortTable], which stands for their union; 0 is the empty one.
type ListID int32

// PortTable has each set of ports once, so that comparing and combining two are lookups. Its size is limited.
type PortTable struct {
	Sets     []Ports
	ids      map[string]PortsID
	combined map[operation]PortsID
	lists    []list // the first is empty
	listIDs  map[list]ListID
	unions   []PortsID // of the lists; -1 if nobody asked

	Room int // for how many entries more, of some 50 bytes
}

// operation combines two sets of ports.
type operation struct {
	how  how
	a, b PortsID
}

type how uint8

const (
	union how = iota
	minus
	intersection
)

// list is a list of sets: another one, and a last set.
type list struct {
	before ListID
	last   PortsID
}

// NewPortTable returns a table with the two sets that every table has, and room for less than a gigabyte.
func NewPortTable() *PortTable {
	t := &PortTable{ids: make(map[string]PortsID), combined: make(map[operation]PortsID),
		lists: make([]list, 1), listIDs: make(map[list]ListID), unions: []PortsID{NoPorts}, Room: 1 << 24}
	t.ID(Ports{})
	t.ID(Everything())
	return t
}

// Spend counts an entry of so many parts, and says whether there is room for it. Once there is none, the table answers
// [NoPorts] to what it does not know.
func (t *PortTable) Spend(parts int) bool {
	t.Room -= parts
	return !t.Full()
}

// Full says whether there was no room for an entry.
func (t *PortTable) Full() bool { return t.Room < 0 }

// ID returns the id of a set.
func (t *PortTable) ID(p Ports) PortsID {
	key := p.Key()
	id, known := t.ids[key]
	if !known && t.Spend(1+len(p.ranges)/4) {
		id = PortsID(len(t.Sets))
		t.ids[key], t.Sets = id, append(t.Sets, p)
	}
	return id
}

// Union returns what is in either set.
func (t *PortTable) Union(a, b PortsID) PortsID {
	switch {
	case a == b || b == NoPorts || a == AllPorts:
		return a
	case a == NoPorts || b == AllPorts:
		return b
	}
	return t.combine(operation{union, min(a, b), max(a, b)})
}

// Minus returns what is in a and not in b.
func (t *PortTable) Minus(a, b PortsID) PortsID {
	switch {
	case b == NoPorts:
		return a
	case a == NoPorts || a == b || b == AllPorts:
		return NoPorts
	}
	return t.combine(operation{minus, a, b})
}

// Intersect returns what is in both sets.
func (t *PortTable) Intersect(a, b PortsID) PortsID {
	switch {
	case a == b || a == NoPorts || b == AllPorts:
		return a
	case b == NoPorts || a == AllPorts:
		return b
	}
	return t.combine(operation{intersection, min(a, b), max(a, b)})
}

// combine returns the result of an operation, computed once.
func (t *PortTable) combine(o operation) PortsID {
	id, known := t.combined[o]
	if !known && t.Spend(1) {
		a, b := t.Sets[o.a], t.Sets[o.b]
		id = t.ID([...]func(Ports, Ports) Ports{Ports.Union, Ports.Minus, Ports.Intersect}[o.how](a, b))
		t.combined[o] = id
	}
	return id
}

// Append returns a list with one more set. That takes no union: there may be as many lists as pods times policies.
func (t *PortTable) Append(to ListID, last PortsID) ListID {
	key := list{to, last}
	id, known := t.listIDs[key]
	if !known && t.Spend(1) {
		id = ListID(len(t.lists))
		t.listIDs[key], t.lists, t.unions = id, append(t.lists, key), append(t.unions, -1)
	}
	return id
}

// UnionOf returns the union of a list.
func (t *PortTable) UnionOf(id ListID) PortsID {
	if t.unions[id] < 0 {
		var all Ports
		for at := id; at > 0; at = t.lists[at].before {
			last := t.Sets[t.lists[at].last]
			all.others, all.ranges = all.others || last.others, append(all.ranges, last.ranges...)
		}
		all.ranges = merged(all.ranges)
		t.unions[id] = t.ID(all)
	}
	return t.unions[id]
}
