// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"strings"

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
	if p := s.index.Owner(a); p != nil && s.index.IsLocal(p) {
		return p.Identity.Own.isolations[d]
	}
	return nil
}
