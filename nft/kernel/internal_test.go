// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
	"github.com/netpold/netpold/test/harness/netns"
)

func open(t testing.TB) *Conn {
	t.Helper()
	c, err := Open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// hash is a table with a hash set of n addresses.
func hash(n int) (*nft.Table, *nft.Set) {
	t := nft.NewTable("t", "")
	s := t.Set("s", nft.SetType{Family: nft.IPv4}, "")
	for i := range n {
		s.Want(number(i), nft.Value{})
	}
	return t, s
}

func number(i int) nft.Key {
	return nft.Key{Addr: [16]byte{10: 0xff, 11: 0xff, 12: byte(i >> 24), 13: byte(i >> 16),
		14: byte(i >> 8), 15: byte(i)}}
}

// A transaction whose answer does not fit in the socket is committed all the same, and Apply says that it does not
// know.
func TestAnswerLost(t *testing.T) {
	netns.Enter(t)
	c := open(t)
	table, _ := hash(10)
	if err := c.socket.conn.SetReadBuffer(1); err != nil { // the least there is
		t.Fatal(err)
	}
	for range 10 { // fill it with answers that nobody reads
		if _, err := c.socket.conn.Send(query{typ: unix.NFT_MSG_GETGEN}.message()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.Apply(t.Context(), table.Take()); !errors.Is(err, ErrStateUnknown) {
		t.Errorf("got %v", err)
	}
	if elements, err := c.Elements(t.Context(), "t", "s", nft.SetType{Family: nft.IPv4}); err != nil ||
		len(elements) != 10 {
		t.Errorf("%d elements, %v", len(elements), err)
	}
	table.Forget()
	if _, err := c.Apply(t.Context(), table.Take()); err != nil {
		t.Errorf("after Forget: %v", err)
	}
}

// Neither silence nor an answer to another batch is success.
func TestVerdict(t *testing.T) {
	e := &message.Encoder{Tx: &nft.Transaction{Ops: []nft.Op{{Verb: nft.DeleteTable}}}}
	e.Seq = 100
	if err := e.Encode(); err != nil {
		t.Fatal(err)
	}
	answer := func(seq uint32, errno unix.Errno) []byte {
		b := message.Batch{Seq: seq}
		b.Begin()
		binary.NativeEndian.PutUint16(b.Buf[4:], unix.NLMSG_ERROR)
		b.Buf = b.Buf[:unix.NLMSG_HDRLEN]
		for _, n := range []uint32{uint32(-int32(errno)), 0, 0, 0, 0} {
			b.Buf = binary.NativeEndian.AppendUint32(b.Buf, n)
		}
		binary.NativeEndian.PutUint32(b.Buf, uint32(len(b.Buf)))
		return b.Buf
	}
	for _, test := range []struct {
		name    string
		answers [][]byte
		want    error
	}{
		{"out of memory", [][]byte{answer(100, unix.ENOMEM)}, unix.ENOMEM},
		{"interrupted", [][]byte{answer(101, unix.EINTR)}, unix.EINTR},
		{"none", nil, ErrStateUnknown},
		{"confirmed", [][]byte{answer(101, 0)}, nil},
		{"of the message.Batch before", [][]byte{answer(99, 0)}, ErrStateUnknown},
		{"of the message.Batch after", [][]byte{answer(103, 0)}, ErrStateUnknown},
		{"cut short", [][]byte{answer(101, 0)[:30]}, ErrStateUnknown},
		{"refused", [][]byte{answer(101, unix.EBUSY)}, unix.EBUSY},
		{"refused and confirmed", [][]byte{answer(101, unix.EBUSY), answer(101, 0)}, unix.EBUSY},
		{"no privileges", [][]byte{answer(100, unix.EPERM)}, unix.EPERM},
		{"owned by somebody else", [][]byte{answer(101, unix.EPERM)}, ErrOwned},
	} {
		v := verdict{encoder: e}
		for _, a := range test.answers {
			v.read(a)
		}
		if err := v.err(); !errors.Is(err, test.want) || (err == nil) != (test.want == nil) {
			t.Errorf("%s: got %v, want %v", test.name, err, test.want)
		}
		blames := errors.Is(v.err(), unix.EBUSY) || errors.Is(v.err(), unix.ENOMEM)
		if refused := (*nft.Refused)(nil); errors.As(v.err(), &refused) != blames {
			t.Errorf("%s: %v says something of what is in the transaction: %t, want %t", test.name, v.err(),
				!blames, blames)
		}
	}
}

// 20,000 operations are refused: only some of the answers fit, but the first one is among them.
func TestManyRefusals(t *testing.T) {
	netns.Enter(t)
	c := open(t)
	tx := &nft.Transaction{Table: "t", Ops: []nft.Op{{Verb: nft.AddTable}}}
	for range 20000 {
		tx.Ops = append(tx.Ops, nft.Op{Verb: nft.DeleteChain, Chain: &nft.Chain{Name: "missing"}})
	}
	_, err := c.Apply(t.Context(), tx)
	var others int
	_, _ = fmt.Sscanf(fmt.Sprint(err), "delete chain missing: no such file or directory, and %d more", &others)
	if !errors.Is(err, unix.ENOENT) || others < 1000 {
		t.Errorf("got %v", err)
	}
	if _, err := c.Apply(t.Context(), &nft.Transaction{Table: "t", Ops: tx.Ops[:1]}); err != nil {
		t.Errorf("the next transaction: %v", err)
	}
}

// A read that is abandoned halfway does not disturb the next one.
func TestReadGivenUp(t *testing.T) {
	netns.Enter(t)
	c := open(t)
	table, s := hash(20000)
	if _, err := c.Apply(t.Context(), table.Take()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := c.exchange(ctx, elementsOf("t", "s"), func([]byte) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if elements, err := c.Elements(t.Context(), "t", "s", s.Type); err != nil || len(elements) != 20000 {
		t.Errorf("%d elements, %v", len(elements), err)
	}
}

// A long read holds up neither a transaction, however large, nor readers that cannot wait for their turn.
func TestReadHoldsUpNobody(t *testing.T) {
	netns.Enter(t)
	c := open(t)
	w, err := c.Watch()
	netns.Require(t, err)
	defer w.Close()
	r, err := OpenReader()
	netns.Require(t, err)
	defer r.Close()
	const n = 2 * maxListened
	table, s := hash(n)
	if _, err := c.Apply(t.Context(), table.Take()); err != nil {
		t.Fatal(err)
	}
	during := sync.OnceFunc(func() {
		for i := range n {
			s.Want(number(n+i), nft.Value{})
		}
		if _, err := c.Apply(t.Context(), table.Take()); err != nil {
			t.Error(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Elements(ctx, "t", "s", s.Type); !errors.Is(err, context.Canceled) {
			t.Errorf("a read without time, while another one is on: %v", err)
		}
	})
	if err := r.exchange(t.Context(), elementsOf("t", "s"), func([]byte) { during() }); err != nil {
		t.Error(err)
	}
	if elements, err := r.Elements(t.Context(), "t", "s", s.Type); err != nil || len(elements) != 2*n {
		t.Error("nothing was committed while the set was read")
	}
}

// What the kernel lacks is named, with the version that has it.
func TestRequirement(t *testing.T) {
	netns.Enter(t)
	c := open(t)
	err := c.require(t.Context(), "probe",
		requirement{Policies, "jump to nowhere", "7.1", ruleOf(nft.JumpTo("nowhere"))})
	const want = "jump to nowhere (Linux 7.1): not supported by this kernel: add rule to chain chain: jump nowhere: " +
		"no such file or directory"
	if !errors.Is(err, ErrNotSupported) || err.Error() != want {
		t.Errorf("got %v", err)
	}
	if err := c.DeleteTable(t.Context(), "probe"); err != nil {
		t.Error(err)
	}
}

// Open tries what is needed, and sends nothing for what is not.
func TestNeeds(t *testing.T) {
	netns.Enter(t)
	sent := func(n Needs) uint32 { // messages
		c, err := Open(Config{Needs: n})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.seq - 1
	}
	const base, log, reject = "base chains of an inet table at the forward and input hooks", "log to a group", "reject"
	for _, test := range []struct {
		needs Needs
		tried []string // of the three
	}{
		{0, nil},
		{Policies, []string{base}},
		{Policies | Log, []string{base, log}},
		{Policies | Reject, []string{base, reject}},
		{Everything, []string{base, log, reject}},
	} {
		var tried []string
		for _, r := range test.needs.needed() {
			if r.what == base || r.what == log || r.what == reject {
				tried = append(tried, r.what)
			}
		}
		if !slices.Equal(tried, test.tried) {
			t.Errorf("needs %b: %q is tried, want %q", test.needs, tried, test.tried)
		}
		var want uint32
		for _, one := range []Needs{Policies, Log, Reject, Guard, Observe} {
			if test.needs&one != 0 {
				want += sent(one)
			}
		}
		got := sent(test.needs)
		t.Logf("needs %b: %d messages", test.needs, got)
		if got != want || got == 0 && test.needs != 0 {
			t.Errorf("needs %b: %d messages, want %d", test.needs, got, want)
		}
	}
}

// If deleting a map does not release its chains in time, maps are flushed first. This kernel does release them; a chain
// in use makes it busy here.
func TestFlushMaps(t *testing.T) {
	netns.Enter(t)
	c := open(t)
	changes := func() uint32 {
		table := nft.NewTable("t", "")
		mapped(table)
		if _, err := c.Apply(t.Context(), table.Take()); err != nil {
			t.Fatal(err)
		}
		dropped(table)
		table.Take()
		table.Reap(table.Retired())
		before := c.seq
		if _, err := c.Apply(t.Context(), table.Take()); err != nil {
			t.Fatal(err)
		}
		return c.seq - before
	}
	without := changes()
	busy := requirement{Policies, "deletion", "1.2", steps{mapped, func(t *nft.Table) {
		if !c.flushMaps {
			t.DeleteChain("chain")
		}
	}}}
	if lacks := c.Lacks(); len(lacks) > 0 {
		t.Errorf("before: %+v", lacks)
	}
	if err := c.require(t.Context(), "probe", busy); err != nil {
		t.Error(err)
	}
	if with := changes(); with != without+1 {
		t.Errorf("a map and its chain are deleted in %d messages, and in %d with a flush", without, with)
	}
	if lacks := c.Lacks(); len(lacks) != 1 || lacks[0].Since != hasMapRelease {
		t.Errorf("after: %+v", lacks)
	}
}

// Everything that follows from a length field is in the kernel's hands or in those of whoever wrote the table.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	e := &message.Encoder{Tx: sampleTransaction()}
	if err := e.Encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(e.Buf)
	for _, m := range e.Messages {
		f.Add(e.Buf[m.Start:])
		f.Add(e.Buf[m.Start+message.HeaderLen:])
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		v := verdict{encoder: e}
		v.read(b)
		_ = v.err()
		w := Watcher{}
		w.decode(b)
	})
}

// sampleTransaction has elements of some kinds.
func sampleTransaction() *nft.Transaction {
	t, s := hash(3)
	s.Want(number(9), nft.Value{Comment: "comment"})
	m := t.Set("m", nft.SetType{Family: nft.IPv6, Fields: nft.AddrRange, Map: true, Counter: true}, "set")
	m.Want(nft.Key{To: [16]byte{15: 7}}, nft.Value{Verdict: nft.JumpTo("c")})
	t.SetChain(&nft.Chain{Name: "c", Rules: []nft.Rule{nft.R(nft.Counter{})}})
	return t.Take()
}
