// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"strings"
)

// Dynamic says of a set of keys of [Flow] that packets put elements into it, by an [Update], and what becomes of them.
// Such elements are the kernel's alone: the table wants none. The zero value is of every other set.
type Dynamic struct {
	Max     uint32 // elements; beyond them packets put none
	Timeout uint32 // seconds that an element stays after the last packet of its key; not 0
}

// declaration is what stands in a set's block about it.
func (d Dynamic) declaration() []string {
	if d == (Dynamic{}) {
		return nil
	}
	return []string{fmt.Sprintf("size %d", d.Max), "flags dynamic,timeout", "timeout " + secondsText(d.Timeout)}
}

// secondsText writes a time as nft(8) does.
func secondsText(n uint32) string {
	var b strings.Builder
	for _, unit := range []struct {
		seconds uint32
		name    string
	}{{24 * 60 * 60, "d"}, {60 * 60, "h"}, {60, "m"}, {1, "s"}} {
		if n >= unit.seconds {
			fmt.Fprintf(&b, "%d%s", n/unit.seconds, unit.name)
			n %= unit.seconds
		}
	}
	return b.String()
}

// Update puts the packet's flow into a dynamic set, if it is not there, has its time begin anew, and counts the packet
// in the element. It matches unless the element cannot be put there, as the set is full.
type Update struct {
	Set  string
	Type SetType // the set's
	// Portless says that the packet has no ports: 0 stands for the destination's.
	Portless bool
}

// UpdateOf returns the update of s by packets with ports.
func UpdateOf(s *Set) Update { return Update{Set: s.Name, Type: s.Type} }

// String returns the update as nft(8) writes it.
func (u Update) String() string {
	f, port := u.Type.Family, "th dport"
	if u.Portless {
		port = "0"
	}
	return fmt.Sprintf("update @%s { %s . %s . meta l4proto . %s counter }", u.Set, Source.field(f),
		Destination.field(f), port)
}

// Opening matches a segment of TCP that opens a connection.
type Opening struct{}

// String returns the match as nft(8) writes it.
func (Opening) String() string { return "tcp flags syn / fin,syn,rst,ack" }
