// SPDX-License-Identifier: Apache-2.0

package aside

import (
	"net/netip"
	"strings"

	"github.com/netpold/netpold/translate/policy"
)

// StandInKey is the key of the stand-in for the isolation or list with a key. No isolation's own key ends like that.
func StandInKey(key string) string { return key + "\n\nquarantined" }

// ListKey is the key of the quarantine of a list.
func ListKey(list string) string { return "list\n" + list }

// AddressKey is the key of the quarantine of an address in a direction. Every isolation's key has a line break.
func AddressKey(d policy.Direction, a netip.Addr) string { return d.String() + " " + a.String() }

// AddressOf returns the address and direction of a key; ok is false for other keys.
func AddressOf(key string) (d policy.Direction, a netip.Addr, ok bool) {
	for _, d := range policy.Directions() {
		if text, found := strings.CutPrefix(key, d.String()+" "); found {
			a, err := netip.ParseAddr(text)
			return d, a, err == nil
		}
	}
	return 0, a, false
}
