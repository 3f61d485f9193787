// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Shared is the pods of a selector as sets of the table, one for each family, that everything that looks them up
// shares: by address or, if there are port names, by the ports that have one of these names.
type Shared struct {
	place         *Place
	name, comment string
	ports         []policy.NamedPort // names; a Proto of 0 is any
	sets          map[nft.Family]*nft.Set
	lookedUpBy    map[string]int // how often each chain does; for these alone, empty sets are left out
	holders       int            // for these all sets exist
	unused        func()
}

// NewShared returns the shared sets of a selector, by port names if there are any. They have no addresses yet. When
// their last user is gone, they call unused.
func NewShared(in *Place, selector string, ports []policy.NamedPort, unused func()) *Shared {
	sh := &Shared{
		place: in, name: "namespaces-" + nft.Hash(selector), comment: selector, ports: ports,
		sets: make(map[nft.Family]*nft.Set), lookedUpBy: make(map[string]int), unused: unused,
	}
	if key := SharedKey(ports); key != "" {
		sh.name, sh.comment = "named-"+nft.Hash(selector, key), "ports"+key+" of "+selector
	}
	return sh
}

// SharedKey is equal only for equal port names.
func SharedKey(ports []policy.NamedPort) string {
	var key strings.Builder
	for _, p := range ports {
		key.WriteString(" " + p.Name)
		if p.Proto != 0 {
			key.WriteString("/" + nft.ProtocolName(p.Proto))
		}
	}
	return key.String()
}

// keys yields the keys of the elements of a pod's address, given its ports.
func (sh *Shared) keys(a netip.Addr, ports []policy.NamedPort) iter.Seq[nft.Key] {
	return func(yield func(nft.Key) bool) {
		if len(sh.ports) == 0 {
			yield(nft.AddrKey(a))
			return
		}
		for _, have := range ports {
			named := func(p policy.NamedPort) bool {
				return p.Name == have.Name && (p.Proto == have.Proto || p.Proto == 0)
			}
			if slices.ContainsFunc(sh.ports, named) && !yield(nft.PortKey(a, have.Proto, have.Number)) {
				return
			}
		}
	}
}

// Add adds a pod's address, given its ports.
func (sh *Shared) Add(a netip.Addr, ports []policy.NamedPort) {
	for key := range sh.keys(a, ports) {
		sh.place.Edits++
		// no comment: there may be as many elements as pods
		sh.Set(nft.FamilyOf(a)).Want(key, nft.Value{})
	}
}

// Remove removes it again.
func (sh *Shared) Remove(a netip.Addr, ports []policy.NamedPort) {
	for key := range sh.keys(a, ports) {
		sh.place.Edits++
		sh.Set(nft.FamilyOf(a)).Unwant(key)
	}
	sh.drop()
}

// Set returns the set of a family, which exists from then on.
func (sh *Shared) Set(f nft.Family) *nft.Set {
	set := sh.sets[f]
	if set == nil {
		typ := nft.SetType{Family: f, Fields: nft.Addr}
		if len(sh.ports) > 0 {
			typ.Fields = nft.AddrProtoPort
		}
		set = sh.place.Table.Set(sh.name+"-"+f.String(), typ, sh.comment)
		sh.sets[f] = set
		sh.change()
	}
	return set
}

// drop deletes unneeded sets.
func (sh *Shared) drop() {
	for f, set := range sh.sets {
		if sh.holders > 0 || len(sh.lookedUpBy) > 0 && set.Len() > 0 {
			continue
		}
		sh.place.Table.DeleteSet(set.Name)
		delete(sh.sets, f)
		sh.change()
	}
}

// change has the chains that look up the sets rendered again.
func (sh *Shared) change() {
	for chain := range sh.lookedUpBy {
		sh.place.Changed(chain)
	}
}

// Find returns the set of a family, or nil if it would be empty, and nobody holds it.
func (sh *Shared) Find(f nft.Family) *nft.Set { return sh.sets[f] }

// LookUp adds lookups by a chain, by 1, or -1.
func (sh *Shared) LookUp(chain string, by int) {
	if sh.lookedUpBy[chain] += by; sh.lookedUpBy[chain] == 0 {
		delete(sh.lookedUpBy, chain)
	}
	sh.left()
}

// Hold adds holders of the sets of all families, by 1, or -1.
func (sh *Shared) Hold(by int) {
	sh.holders += by
	if sh.holders > 0 {
		for _, f := range nft.Families() {
			sh.Set(f)
		}
	}
	sh.left()
}

// left drops what the remaining users do not need.
func (sh *Shared) left() {
	sh.drop()
	if sh.Users() == 0 {
		sh.unused()
	}
}

// Users returns how many chains look up the sets, and how many others hold them.
func (sh *Shared) Users() int { return sh.holders + len(sh.lookedUpBy) }

// Sets returns the number of sets.
func (sh *Shared) Sets() int { return len(sh.sets) }
