// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// maxEntries is how many connections conntrack may have before it must forget them all. That takes the kernel some 20
// ms, a tenth of the time of that many probes; per probe, 8192 costs as much, and 65536 a little less.
const maxEntries = 1 << 15

// firstFresh is the first of the source ports that probes choose from, up to the last port. There are maxEntries of
// them.
const firstFresh = 1 << 15

// conntrack is connection tracking in one network namespace: what it may know, and a way to make it forget.
type conntrack struct {
	conn  *netlink.Conn
	limit int                // of entries
	used  map[tuple]struct{} // the probes since Forget
	port  uint16             // the last source port chosen
}

// A tuple identifies a connection in conntrack, the same in both directions: the smaller end comes first.
type tuple struct {
	ends  [2]end
	proto uint8
}

// An end of a connection, in a form which is fast as a key. An ICMP id is a port here, the same at both ends.
type end struct {
	addr [16]byte
	port uint16
}

// openConntrack connects to the calling thread's network namespace.
func openConntrack() (*conntrack, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open conntrack: %w", err)
	}
	c := &conntrack{conn: conn, limit: maxEntries, used: make(map[tuple]struct{}, maxEntries)}
	// A small machine's table may be smaller. The file does not exist while nobody tracks connections.
	if text, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_max"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && n > 0 {
			c.limit = max(1, min(c.limit, n/2))
		}
	}
	return c, nil
}

func (c *conntrack) Close() error { return c.conn.Close() }

// forget removes all entries, as conntrack -F does.
func (c *conntrack) forget() error {
	const (
		remove   = unix.NFNL_SUBSYS_CTNETLINK<<8 | 2 // IPCTNL_MSG_CT_DELETE
		anything = "\x00\x00\x00\x00"                // struct nfgenmsg: of any family
	)
	_, err := c.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: remove, Flags: netlink.Request | netlink.Acknowledge},
		Data:   []byte(anything),
	})
	if err != nil {
		return fmt.Errorf("flush conntrack: %w", err)
	}
	clear(c.used)
	return nil
}

// claim chooses a source port for a probe that conntrack has not seen in either direction. It returns false if there is
// none, or if conntrack's table is full, which cannot happen after forget.
func (c *conntrack) claim(q Probe) (uint16, bool) {
	if len(c.used) >= c.limit {
		return 0, false
	}
	if q.SrcPort != 0 {
		return q.SrcPort, c.add(q, q.SrcPort)
	}
	for range 1<<16 - firstFresh {
		c.port = max(c.port+1, firstFresh) // of 0 too, after the last one
		if c.add(q, c.port) {
			return c.port, true
		}
	}
	return 0, false
}

// add records a connection, and reports whether it is new.
func (c *conntrack) add(q Probe, srcPort uint16) bool {
	src, dst := end{q.Src.As16(), srcPort}, end{q.Dst.As16(), q.DstPort}
	if q.Proto == icmp(q.Src) {
		dst.port = srcPort
	}
	t := tuple{ends: [2]end{src, dst}, proto: q.Proto}
	if netip.AddrPortFrom(q.Dst, dst.port).Compare(netip.AddrPortFrom(q.Src, src.port)) < 0 {
		t.ends = [2]end{dst, src}
	}
	if _, ok := c.used[t]; ok {
		return false
	}
	c.used[t] = struct{}{}
	return true
}
