// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// maxConnections is how many connections a server has at once. One takes some 20 kB while it does nothing.
const maxConnections = 256

// connections are the open ones of a server, the oldest first. Who opens one too many has the oldest closed: anybody
// may connect, so that nobody can use up the memory, or keep a probe or a scrape from an answer by staying.
type connections struct {
	mu   sync.Mutex
	open []net.Conn
}

// note is a server's ConnState.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	if state != http.StateNew && state != http.StateClosed {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateClosed {
		c.open = slices.DeleteFunc(c.open, func(open net.Conn) bool { return open == conn })
		return
	}
	if c.open = append(c.open, conn); len(c.open) > maxConnections {
		_ = c.open[0].Close() // its reader and its writer notice
		c.open = slices.Delete(c.open, 0, 1)
	}
}
