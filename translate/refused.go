// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// addressKey is the key of the quarantine of an address in a direction. No isolation's key is without a line break.
func addressKey(d policy.Direction, a netip.Addr) string { return d.String() + " " + a.String() }

// ofAddress returns the address of a key, and its direction; ok is false if it is an isolation's.
func ofAddress(key string) (d policy.Direction, a netip.Addr, ok bool) {
	for _, d := range policy.Directions() {
		if text, found := strings.CutPrefix(key, d.String()+" "); found {
			a, err := netip.ParseAddr(text)
			return d, a, err == nil
		}
	}
	return 0, a, false
}

// refusedAt returns the quarantine of an address in a direction, or nil.
func (s *State) refusedAt(d policy.Direction, a netip.Addr) *quarantine {
	if len(s.quarantines) == 0 {
		return nil
	}
	return s.standIn(addressKey(d, a))
}

// isolationAt returns the isolation in a direction of the pod of this node that has an address, or nil.
func (s *State) isolationAt(d policy.Direction, a netip.Addr) *isolation {
	if p := s.owners[a]; p != nil && p.node == s.node {
		return p.identity.isolations[d]
	}
	return nil
}

// refuse has all denied to or from an address of p that the kernel does not take into the maps which dispatch, but for
// what no policy can block. The set, and what looks it up, is there as long as there is such an address.
func (s *State) refuse(d policy.Direction, a netip.Addr, p *pod) {
	s.troubleVersion++
	name, typ := refusedSet(d, nft.FamilyOf(a)), nft.SetType{Family: nft.FamilyOf(a), Fields: nft.Addr}
	if s.table.FindSet(name) == nil {
		s.table.Set(name, typ, "pods of this node that the kernel does not take into "+podsMap(d, typ.Family))
		s.table.SetChain(&nft.Chain{
			Name: refusedChain(d), Comment: "pods of this node whose isolations cannot be reached",
			Rules: []nft.Rule{nft.R(nft.JumpTo(alwaysChain)), nft.R(nft.Counter{}, nft.GotoChain(denyChain(d)))},
		})
		s.setWay()
	}
	s.table.FindSet(name).Want(nft.AddrKey(a), nft.Value{Comment: p.text})
}

// unrefuse undoes [State.refuse].
func (s *State) unrefuse(d policy.Direction, a netip.Addr) {
	if len(s.quarantines) == 0 {
		return
	}
	s.troubleVersion++
	set := s.table.FindSet(refusedSet(d, nft.FamilyOf(a)))
	if set == nil {
		return
	}
	set.Unwant(nft.AddrKey(a))
	if set.Len() > 0 {
		return
	}
	s.table.DeleteSet(set.Name)
	s.setWay()
	for _, f := range nft.Families() {
		if s.table.FindSet(refusedSet(d, f)) != nil {
			return
		}
	}
	s.table.DeleteChain(refusedChain(d))
}
