// SPDX-License-Identifier: Apache-2.0

package chain

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/opening"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// Place is where isolations live: a table, and the port chains that they share.
type Place struct {
	Table    *nft.Table
	Openings *opening.Chains
	Changed  func(chain string) // called for a chain that must be rendered again, see [Isolation.Render]
	Edits    int                // element edits so far
}

// Isolation is the chain of an isolation, with its own sets and maps.
type Isolation struct {
	Kind  frame.Kind
	Chain string // its name

	place    *Place
	hash     string // in the names of the sets
	policies string // as in comments
	grants   map[string]*Grant
	sets     map[setID]*nft.Set         // nil without any
	blocks   int                        // ranges of addresses that the block maps have
	opened   map[string]opening.Opening // to these, by chain
}

// New returns an isolation of a kind, for policies, with hash in its names. It has nothing in the table yet.
func New(in *Place, k frame.Kind, hash string, policies []types.NamespacedName) Isolation {
	return Isolation{
		Kind: k, Chain: frame.IsolationName(k, hash, policies),
		place: in, hash: hash, policies: frame.PolicyList(policies),
		grants: make(map[string]*Grant),
	}
}

// Body is what the chain says besides looking up the isolation's own sets.
type Body struct {
	Any     spec.Ports // for every peer; openings that are not inline must be acquired
	Lookups []Lookup
	Tail    []nft.Rule // what happens to the rest
}

// Lookup opens ports to the elements of a shared set: every port, if the elements include ports. An opening that is not
// inline must be acquired.
type Lookup struct {
	Set   *nft.Set
	Ports spec.Ports
}

// Render makes the chain, and drops sets that have become empty. The chain looks up each kind of match once, whatever
// the number of policies; it logs and denies what it does not allow.
func (c *Isolation) Render(b Body) {
	for id, set := range c.sets {
		if set.Len() == 0 {
			c.delete(id)
		}
	}
	chain := &nft.Chain{Name: c.Chain, Comment: c.policies}
	add := func(statements ...nft.Statement) { chain.Rules = append(chain.Rules, nft.Rules(statements...)...) }
	defer c.place.Table.SetChain(chain)
	if b.Any.Every {
		add(c.Kind.Allow())
		return
	}
	if !b.Any.Empty() {
		add(c.openTo(b.Any)...)
	}
	for _, k := range []setKind{portsSet, podsSet, rangesSet} {
		c.lookUp(k, add)
	}
	for _, l := range b.Lookups {
		lookup := nft.LookupIn(frame.PeerSide(c.Kind.Direction), l.Set)
		if l.Ports.Every {
			add(lookup, c.Kind.Allow())
		} else {
			add(append([]nft.Statement{lookup}, c.openTo(l.Ports)...)...)
		}
	}
	c.lookUp(blocksSet, add)
	chain.Rules = append(chain.Rules, b.Tail...)
}

// Remove removes the chain and its sets from the table. No grants must be left.
func (c *Isolation) Remove() {
	for id := range c.sets {
		c.delete(id)
	}
	c.place.Table.DeleteChain(c.Chain)
}

// openTo returns the statements that allow ports.
func (c *Isolation) openTo(ports spec.Ports) []nft.Statement {
	if opening.Inline(ports) {
		return []nft.Statement{ports.Ranges, c.Kind.Allow()}
	}
	return []nft.Statement{nft.JumpTo(opening.Of(c.Kind, ports).Chain)}
}

// lookUp adds the lookups of the isolation's sets of one kind.
func (c *Isolation) lookUp(k setKind, add func(...nft.Statement)) {
	for _, f := range nft.Families() {
		set := c.sets[setID{k, f}]
		switch peer := frame.PeerSide(c.Kind.Direction); {
		case set == nil:
		case set.Type.Map:
			add(nft.LookupIn(peer, set))
		default:
			add(nft.LookupIn(peer, set), c.Kind.Allow())
		}
	}
}

// Key is equal only for equal isolations.
func Key(k frame.Kind, policies []types.NamespacedName, numbers map[policy.NamedPort]nft.Ports) string {
	fields := []string{k.String(), policies[0].Namespace}
	for _, p := range policies {
		fields = append(fields, p.Name)
	}
	var ports []string
	for port, have := range numbers {
		ports = append(ports, fmt.Sprintf("%s %d %v", port.Name, port.Proto, []nft.PortRange(have)))
	}
	slices.Sort(ports)
	fields = append(append(fields, ""), ports...)
	return strings.Join(fields, "\n") // no field has a line break: names are DNS names
}
