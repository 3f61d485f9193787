// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"net/http"
	"slices"
	"sync"
)

// maxConnections bounds a server's connections. An idle one takes some 20 kB.
const maxConnections = 256

// connections are a server's open ones, the oldest first. One too many closes the oldest: anybody may connect, so no
// client may use up the memory, or starve probes and scrapes by holding connections open.
type connections struct {
	mu   sync.Mutex
	open []net.Conn
}

// note is the server's ConnState hook.
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
