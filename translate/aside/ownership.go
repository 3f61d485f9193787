// SPDX-License-Identifier: Apache-2.0

package aside

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// Owner is an isolation, or a list of a tier.
type Owner struct {
	Key       string // of its quarantine
	Chain     string
	Kind      frame.Kind
	StandsIn  bool                 // for one that is set aside
	Addresses iter.Seq[netip.Addr] // of its pods on the node
}

// Ownership says which isolations and which lists of the tiers the objects of a table belong to.
type Ownership struct {
	book    Book
	owners  []Owner
	decided func(policy.Direction, netip.Addr) bool
	sets    map[string][]string // quarantine keys; "" for a stand-in
	chains  map[string][]string
	weight  map[string]int
}

// NewOwnership returns which owner owns what in the table of a frame; decided says whether an owner has an address in a
// direction. Its cost is proportional to the whole table.
func NewOwnership(fr *frame.Frame, owners []Owner, b Book, decided func(policy.Direction, netip.Addr) bool) *Ownership {
	o := &Ownership{
		book: b, owners: owners, decided: decided,
		sets: make(map[string][]string), chains: make(map[string][]string), weight: make(map[string]int),
	}
	for _, owner := range owners {
		reached := fr.Reach(owner.Chain)
		key := owner.Key
		if owner.StandsIn {
			key = ""
		} else {
			o.weight[key] = reached.Weight
		}
		for _, name := range reached.Sets {
			o.sets[name] = append(o.sets[name], key)
		}
		for _, name := range reached.Chains {
			o.chains[name] = append(o.chains[name], key)
		}
	}
	return o
}

// Of returns the owners of an operation, as quarantines without a reason; none for objects of every table, deletions,
// and what is quarantined already. An element of a set that every table has belongs to the pod's address.
func (o *Ownership) Of(op nft.Op) []Quarantine {
	if all := o.closing(op); all != nil {
		return all
	}
	if op.Verb == nft.AddElements && o.sets[op.Set.Name] == nil && len(op.Elements) == 1 {
		return o.ofPod(op.Set.Name, op.Elements[0])
	}
	var all []Quarantine
	for _, key := range o.of(op) {
		if key != "" {
			all = append(all, Quarantine{Key: key})
		}
	}
	return all
}

// of returns the keys of an operation's owners.
func (o *Ownership) of(op nft.Op) []string {
	switch op.Verb {
	case nft.AddChain, nft.FlushChain, nft.AddRule:
		return o.ofAudit(op.Chain.Name, o.chains[op.Chain.Name])
	case nft.AddSet:
		return o.ofAudit(op.Set.Name, o.sets[op.Set.Name])
	case nft.AddElements:
		owners := o.sets[op.Set.Name]
		if owners == nil && len(op.Elements) == 1 {
			owners = o.chains[op.Elements[0].Verdict.Chain]
		}
		return owners
	}
	return nil
}

// ofAudit returns all auditing isolations of a direction if a chain or set is one that they lead to; otherwise owners.
func (o *Ownership) ofAudit(name string, owners []string) []string {
	d, ok := frame.OfAudit(name)
	if !ok {
		return owners
	}
	for _, owner := range o.owners {
		if owner.Kind == (frame.Kind{Direction: d, Audit: true}) && !owner.StandsIn {
			owners = append(owners, owner.Key)
		}
	}
	return owners
}

// ofPod returns the owners of an element of the sets and maps of the node's pods.
func (o *Ownership) ofPod(set string, e nft.Element) []Quarantine {
	var all []Quarantine
	for _, f := range nft.Families() {
		a := netip.AddrFrom16(e.Addr)
		if f == nft.IPv4 {
			a = a.Unmap()
		}
		for _, d := range policy.Directions() {
			if frame.OfPod(set, d, f) && o.decided(d, a) && o.book.AtAddress(d, a) == nil {
				all = append(all, Quarantine{Key: AddressKey(d, a)})
			}
		}
	}
	return all
}

// closing returns the addresses that an operation denies, as open: if it is refused, they are.
func (o *Ownership) closing(op nft.Op) []Quarantine {
	var all []Quarantine
	for _, q := range o.book {
		if q.Address.IsValid() && !q.Open && !q.Released && frame.Closes(q.Kind.Direction, q.Address, op) {
			all = append(all, Quarantine{Key: q.Key, Open: true})
		}
	}
	return all
}

// Changed returns the keys of the isolations that a transaction changes, the lightest first.
func (o *Ownership) Changed(tx *nft.Transaction) []string {
	keys := make(map[string]struct{})
	for _, op := range tx.Ops {
		all := op.Elements
		for i := range max(1, len(all)) {
			if len(all) > 0 {
				op.Elements = all[i : i+1]
			}
			for _, key := range o.of(op) {
				if key != "" {
					keys[key] = struct{}{}
				}
			}
			if len(all) > 0 && o.sets[op.Set.Name] != nil { // the same for each element
				break
			}
		}
	}
	return o.lightest(slices.Collect(maps.Keys(keys)))
}

// Addresses returns the keys of the addresses of isolated pods of the node that are not set aside.
func (o *Ownership) Addresses() []string {
	var keys []string
	for _, owner := range o.owners {
		for a := range owner.Addresses {
			if d := owner.Kind.Direction; o.book.AtAddress(d, a) == nil {
				keys = append(keys, AddressKey(d, a))
			}
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// All returns the keys of all isolations that are not set aside, the lightest first.
func (o *Ownership) All() []string {
	return o.lightest(slices.Collect(maps.Keys(o.weight)))
}

func (o *Ownership) lightest(keys []string) []string {
	slices.SortFunc(keys, func(a, b string) int {
		return cmp.Or(cmp.Compare(o.weight[a], o.weight[b]), cmp.Compare(a, b))
	})
	return keys
}
