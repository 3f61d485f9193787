// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"strings"
)

// Dynamic makes a set with keys of [Flow] one that packets add elements to, by an [Update]. These elements exist only
// in the kernel: the table wants none. Every other set has the zero value.
type Dynamic struct {
	Max     uint32 // elements; beyond it packets add none
	Timeout uint32 // seconds that an element stays after the last packet with its key; not 0
}

// declaration is its lines in the set's block.
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

// Update adds the packet's flow to a dynamic set unless it is there, restarts its timeout, and counts the packet in the
// element. It matches unless the set is full.
type Update struct {
	Set  string
	Type SetType // the set's
	// Portless says that the packet has no ports: the port in the key is 0.
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
