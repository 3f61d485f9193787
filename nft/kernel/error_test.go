// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
)

// v4 returns the n-th of many addresses.
func v4(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}) }

// standing is a table with everything that the refused transactions need.
func standing() *nft.Table {
	t := nft.NewTable("t", "")
	t.SetChain(&nft.Chain{Name: "used"})
	t.SetChain(&nft.Chain{Name: "c", Rules: []nft.Rule{nft.R(nft.JumpTo("used"))}})
	t.Set("hash", nft.SetType{Family: nft.IPv4}, "").Want(nft.AddrKey(v4(0)), nft.Value{})
	t.Set("map", nft.SetType{Family: nft.IPv4, Map: true}, "").Want(nft.AddrKey(v4(0)), verdict(nft.GotoChain("used")))
	t.Set("ranges", nft.SetType{Family: nft.IPv4, Fields: nft.AddrRange}, "").Want(span("10.0.0.0/16"), nft.Value{})
	return t
}

// The error names whatever the kernel refuses, and nothing changes; after Forget the whole table is committed.
func TestRefused(t *testing.T) {
	for _, test := range []struct {
		name   string
		behind string // what nft(8) does before, behind our back
		edit   func(*nft.Table)
		want   string
		errno  unix.Errno
	}{
		{
			name: "jump to a missing chain",
			edit: func(t *nft.Table) {
				t.SetChain(&nft.Chain{Name: "c", Rules: []nft.Rule{nft.R(nft.JumpTo("missing"))}})
			},
			want:  "add rule to chain c: jump missing: no such file or directory",
			errno: unix.ENOENT,
		},
		{
			name: "lookup in a missing set",
			edit: func(t *nft.Table) {
				t.SetChain(&nft.Chain{Name: "new",
					Rules: []nft.Rule{nft.R(nft.Lookup{Set: "missing", Type: nft.SetType{Family: nft.IPv6}})}})
			},
			want:  "add rule to chain new: ip6 saddr @missing: no such file or directory",
			errno: unix.ENOENT,
		},
		{
			name: "verdict to a missing chain",
			edit: func(t *nft.Table) {
				for i := range 5000 {
					t.FindSet("map").Want(nft.AddrKey(v4(i+1)), verdict(nft.GotoChain("used")))
				}
				t.FindSet("map").Want(nft.AddrKey(v4(4000)), verdict(nft.GotoChain("missing")))
			},
			want:  "add element inet t map { 10.0.15.160 : goto missing }: no such file or directory",
			errno: unix.ENOENT,
		},
		{
			name:   "element that is there",
			behind: "add element inet t hash { 10.0.15.160 }",
			edit: func(t *nft.Table) {
				for i := range 5000 {
					t.FindSet("hash").Want(nft.AddrKey(v4(i+1)), nft.Value{})
				}
			},
			want:  "add element inet t hash { 10.0.15.160 }: file exists",
			errno: unix.EEXIST,
		},
		{
			name:   "element that is not there",
			behind: "delete element inet t hash { 10.0.0.0 }",
			edit:   func(t *nft.Table) { t.FindSet("hash").Unwant(nft.AddrKey(v4(0))) },
			want:   "delete element inet t hash { 10.0.0.0 }: no such file or directory",
			errno:  unix.ENOENT,
		},
		{
			name: "interval inside another",
			edit: func(t *nft.Table) {
				t.FindSet("ranges").Want(span("9.0.0.0/8"), nft.Value{})
				t.FindSet("ranges").Want(span("10.0.1.0/24"), nft.Value{})
				t.FindSet("ranges").Want(span("11.0.0.0/8"), nft.Value{})
			},
			want:  "add element inet t ranges { 10.0.1.0/24 }: file exists",
			errno: unix.EEXIST,
		},
		{
			name: "interval around another, with the same end",
			edit: func(t *nft.Table) {
				t.FindSet("ranges").Want(nft.PairKey(addr("9.0.0.0"), addr("10.0.255.255")), nft.Value{})
			},
			want:  "add element inet t ranges { 9.0.0.0-10.0.255.255 }: file exists",
			errno: unix.EEXIST,
		},
		{
			name: "interval inside another, with the same end",
			edit: func(t *nft.Table) {
				t.FindSet("ranges").Want(span("10.0.255.0/24"), nft.Value{})
			},
			want:  "add element inet t ranges { 10.0.255.0/24 }: file exists",
			errno: unix.EEXIST,
		},
		{
			name:  "deletion of a chain in use",
			edit:  func(t *nft.Table) { t.DeleteChain("used"); t.Take(); t.Reap(t.Retired()) },
			want:  "delete chain used: device or resource busy",
			errno: unix.EBUSY,
		},
		{
			name:   "set that is there",
			behind: "add set inet t other { type ipv4_addr; }",
			edit:   func(t *nft.Table) { t.Set("other", nft.SetType{Family: nft.IPv4}, "") },
			want:   "add set other: file exists",
			errno:  unix.EEXIST,
		},
		{
			name:   "everything, as the table is gone",
			behind: "delete table inet t; add table inet t; add chain inet t c",
			edit: func(t *nft.Table) {
				t.SetChain(&nft.Chain{Name: "c", Rules: []nft.Rule{nft.R(nft.JumpTo("used"))}, Comment: "x"})
				t.FindSet("ranges").Unwant(span("10.0.0.0/16"))
				t.FindSet("hash").Unwant(nft.AddrKey(v4(0)))
			},
			want:  "delete elements from set hash: no such file or directory, and 2 more operations refused",
			errno: unix.ENOENT,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			netns.Enter(t)
			c, table := open(t, kernel.Config{}), standing()
			apply(t, c, table)
			if test.behind != "" {
				netns.NFT(t, "", strings.Fields(test.behind)...)
			}
			before := list(t, "t")
			test.edit(table)
			_, err := c.Apply(t.Context(), table.Take())
			if !errors.Is(err, test.errno) || err.Error() != test.want {
				t.Errorf("got  %v\nwant %s", err, test.want)
			}
			named(t, err, nft.Mismatch, test.want)
			if after := list(t, "t"); after != before {
				t.Errorf("the table changed:\n%s", diff(after, before))
			}
			healed := standing()
			healed.Forget()
			apply(t, c, healed)
		})
	}
}

// named says whether a refusal names what its text does, and only the element if that is to blame.
func named(t *testing.T, err error, cause nft.Cause, text string) {
	t.Helper()
	var refused *nft.Refused
	if !errors.As(err, &refused) || len(refused.Refusals) == 0 {
		t.Fatalf("nothing is named: %v", err)
	}
	first := refused.Refusals[0]
	want := first.Op.Describe()
	if strings.Contains(text, " element inet ") {
		tx := nft.Transaction{Table: "t", Ops: []nft.Op{first.Op}}
		if want = strings.TrimSpace(tx.String()); len(first.Op.Elements) != 1 {
			t.Errorf("%d elements named", len(first.Op.Elements))
		}
	}
	if first.Cause != cause || !strings.Contains(text, want) || first.Err == nil {
		t.Errorf("named %s, cause %d, want %s, cause %d", want, first.Cause, text, cause)
	}
}

// A rule can be too large for the attribute that holds its expressions; ports are not, as their sets are split.
func TestTooLongForAnAttribute(t *testing.T) {
	netns.Enter(t)
	c, table := open(t, kernel.Config{}), nft.NewTable("t", "")
	var many nft.Ports
	for i := range 4000 { // 130 kB
		many = append(many, ports(nft.TCP+11*uint8(i/2000), uint16(i%2000*3), uint16(i%2000*3)))
	}
	table.SetChain(&nft.Chain{Name: "c", Rules: []nft.Rule{nft.R(many)}})
	apply(t, c, table)
	before := list(t, "t")
	if n := strings.Count(before, "tcp . "); n != 2000 {
		t.Errorf("%d ports of tcp, want 2000", n)
	}

	counters := make([]nft.Statement, 5000)
	for i := range counters {
		counters[i] = nft.Counter{}
	}
	table.SetChain(&nft.Chain{Name: "c", Rules: []nft.Rule{nft.R(counters...)}})
	_, err := c.Apply(t.Context(), table.Take())
	if err == nil || !strings.Contains(err.Error(), "add rule to chain c: counter counter") ||
		!strings.HasSuffix(err.Error(), "more than 65535") || len(err.Error()) > 500 {
		t.Errorf("got error %v", err)
	}
	if after := list(t, "t"); after != before {
		t.Errorf("the table changed:\n%s", diff(after, before))
	}
}

// What the model should never have is an error before anything is sent.
func TestNotEncodable(t *testing.T) {
	netns.Enter(t)
	c := open(t, kernel.Config{})
	one := func(typ nft.SetType, k nft.Key, v nft.Value) func(*nft.Table) {
		return func(t *nft.Table) { t.Set("s", typ, "").Want(k, v) }
	}
	rule := func(s ...nft.Statement) func(*nft.Table) {
		return func(t *nft.Table) { t.SetChain(&nft.Chain{Name: "c", Rules: []nft.Rule{nft.R(s...)}}) }
	}
	ranges := nft.SetType{Family: nft.IPv4, Fields: nft.AddrRange}
	hash, isMap := nft.SetType{Family: nft.IPv4}, nft.SetType{Family: nft.IPv4, Map: true}
	for _, test := range []struct {
		want string
		edit func(*nft.Table)
	}{
		{"add elements to set s: fd00::1 is not an IPv4 address", one(hash, nft.AddrKey(addr("fd00::1")), nft.Value{})},
		{"add elements to set s: interval ends before it starts",
			one(ranges, nft.PairKey(addr("10.0.0.2"), addr("10.0.0.1")), nft.Value{})},
		{"add elements to set s: interval ends before it starts",
			one(ranges, nft.AddrKey(addr("10.0.0.1")), nft.Value{})},
		{"add elements to map s: reject with icmpx admin-prohibited is not a verdict that a map can have",
			one(isMap, nft.AddrKey(addr("10.0.0.1")), verdict(nft.Verdict{Kind: nft.Reject}))},
		{"add rule to chain c: meta l4proto . th dport {  }: a port match without ports", rule(nft.Ports{})},
		{"add rule to chain c: tcp dport 9-8: ports 9-8: the first is after the last",
			rule(nft.Ports{ports(nft.TCP, 9, 8)})},
		{"add rule to chain c: meta l4proto . th dport { tcp . 8-9, udp . 1 }: " +
			"a port range for several protocols; each needs its own rule",
			rule(nft.Ports{ports(nft.TCP, 8, 9), ports(nft.UDP, 1, 1)})},
	} {
		table := nft.NewTable("t", "")
		test.edit(table)
		_, err := c.Apply(t.Context(), table.Take())
		if err == nil || err.Error() != "encode transaction: "+test.want {
			t.Errorf("got %v, want %q", err, test.want)
		}
		operation, _, _ := strings.Cut(test.want, ": ")
		named(t, err, nft.Unfit, test.want)
		if refused := (*nft.Refused)(nil); errors.As(err, &refused) &&
			!strings.HasPrefix(refused.Refusals[0].Op.Describe(), operation) {
			t.Errorf("named %s, want %s", refused.Refusals[0].Op.Describe(), operation)
		}
	}
	if tables := netns.NFT(t, "", "list", "tables"); tables != "" {
		t.Errorf("tables:\n%s", tables)
	}
}

func TestDone(t *testing.T) {
	netns.Enter(t)
	c := open(t, kernel.Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Apply(ctx, standing().Take()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Elements(ctx, "t", "s", nft.SetType{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := c.Apply(ctx, nil); err != nil {
		t.Error(err)
	}
	apply(t, c, standing())
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := c.Apply(t.Context(), standing().Take()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("got %v", err)
	}
}

func TestDeleteTable(t *testing.T) {
	netns.Enter(t)
	c := open(t, kernel.Config{})
	apply(t, c, standing())
	for range 2 {
		if err := c.DeleteTable(t.Context(), "t"); err != nil {
			t.Fatal(err)
		}
		if tables := netns.NFT(t, "", "list", "tables"); tables != "" {
			t.Errorf("tables:\n%s", tables)
		}
	}
}

// dropCapability removes a capability from the calling thread, which belongs to the test.
func dropCapability(t *testing.T, capability uint) {
	t.Helper()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
	data[capability/32].Effective &^= 1 << (capability % 32)
	if err := unix.Capset(&header, &data[0]); err != nil {
		t.Fatal(err)
	}
}

func TestOpenWithoutPrivileges(t *testing.T) {
	netns.Enter(t)
	dropCapability(t, unix.CAP_NET_ADMIN)
	c, err := kernel.Open(kernel.Config{Needs: kernel.Policies})
	if err == nil {
		_ = c.Close()
	}
	const want = "change nf_tables: operation not permitted (it needs CAP_NET_ADMIN in the user namespace that owns " +
		"the network namespace)"
	if !errors.Is(err, unix.EPERM) || errors.Is(err, kernel.ErrNotSupported) || errors.Is(err, kernel.ErrOwned) ||
		err.Error() != want {
		t.Errorf("got %v", err)
	}
}

// Open leaves nothing behind, and other tables do not disturb it.
func TestOpen(t *testing.T) {
	for _, config := range []kernel.Config{{Needs: kernel.Everything}, {Needs: kernel.Everything, Own: true}} {
		netns.Enter(t)
		netns.NFT(t, "", "add table inet netpold")
		for range 3 {
			open(t, config)
		}
		if got, want := netns.NFT(t, "", "list", "ruleset"), "table inet netpold {\n}\n"; got != want {
			t.Errorf("got\n%s", got)
		}
	}
}

// Without privileges over the machine, a transaction may be too long for the socket. That is an error before anything
// is sent.
func TestTooLongForTheSocket(t *testing.T) {
	const child = "NETPOLD_TEST_USERNS" // as package netns has it: do not do the same again
	if os.Getenv(child) == "" {
		cmd := exec.Command("/proc/self/exe", "-test.run=^"+t.Name()+"$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1")
		cmd.SysProcAttr = &syscall.SysProcAttr{
			Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
			UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
			GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		}
		out, err := cmd.CombinedOutput()
		if errors.Is(err, os.ErrPermission) {
			t.Skip(err)
		}
		t.Logf("%s", out)
		if err != nil {
			t.Error(err)
		}
		return
	}
	c, table := open(t, kernel.Config{}), nft.NewTable("t", "")
	s := table.Set("s", nft.SetType{Family: nft.IPv4}, "")
	for i := range 100000 { // 15 MB
		s.Want(nft.AddrKey(v4(i)), nft.Value{Comment: strings.Repeat("c", nft.MaxComment)})
	}
	_, err := c.Apply(t.Context(), table.Take())
	if !errors.Is(err, unix.EMSGSIZE) || !strings.Contains(fmt.Sprint(err), "wmem_max") {
		t.Errorf("got %v", err)
	}
	t.Log(err)
	apply(t, c, standing())
}
