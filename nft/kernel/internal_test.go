// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
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

// A transaction whose answer finds no room in the socket is committed all the same, and Apply says that it does not
// know.
func TestAnswerLost(t *testing.T) {
	netns.Enter(t)
	c := open(t)
	table, _ := hash(10)
	if err := c.socket.conn.SetReadBuffer(1); err != nil { // the least there is
		t.Fatal(err)
	}
	for range 10 { // fill it with answers that nobody reads
		request := c.request(unix.NFT_MSG_GETGEN, 0, func(*batch) {})
		if err := c.socket.send(request.buf); err != nil {
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
	e := &encoder{tx: &nft.Transaction{Ops: []nft.Op{{Verb: nft.DeleteTable}}}}
	e.seq = 100
	if err := e.encode(); err != nil {
		t.Fatal(err)
	}
	answer := func(seq uint32, errno unix.Errno) []byte {
		b := batch{seq: seq}
		b.frame(unix.NLMSG_ERROR)
		b.buf = b.buf[:unix.NLMSG_HDRLEN]
		for _, n := range []uint32{uint32(-int32(errno)), 0, 0, 0, 0} {
			b.buf = append(b.buf, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		}
		b.buf[0] = byte(len(b.buf))
		return b.buf
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
		{"of the batch before", [][]byte{answer(99, 0)}, ErrStateUnknown},
		{"of the batch after", [][]byte{answer(103, 0)}, ErrStateUnknown},
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

// 20,000 operations are refused: there is room for some of the answers only, but the first one is among them.
func TestManyRefusals(t *testing.T) {
	netns.Enter(t)
	c := open(t)
	tx := &nft.Transaction{Table: "t", Ops: []nft.Op{{Verb: nft.AddTable}}}
	for range 20000 {
		tx.Ops = append(tx.Ops, nft.Op{Verb: nft.DeleteChain, Chain: &nft.Chain{Name: "missing"}})
	}
	_, err := c.Apply(t.Context(), tx)
	var refused *Error
	if !errors.As(err, &refused) || refused.Object != "delete chain missing" || refused.Errno != unix.ENOENT ||
		refused.Others < 1000 {
		t.Errorf("got %v", err)
	}
	if _, err := c.Apply(t.Context(), &nft.Transaction{Table: "t", Ops: tx.Ops[:1]}); err != nil {
		t.Errorf("the next transaction: %v", err)
	}
}

// A read that is given up in the middle does not disturb the next one.
func TestReadGivenUp(t *testing.T) {
	netns.Enter(t)
	c := open(t)
	table, s := hash(20000)
	if _, err := c.Apply(t.Context(), table.Take()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	request := c.request(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(b *batch) {
		b.str(unix.NFTA_SET_ELEM_LIST_TABLE, "t")
		b.str(unix.NFTA_SET_ELEM_LIST_SET, "s")
	})
	if err := c.exchange(ctx, request, func([]byte) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if elements, err := c.Elements(t.Context(), "t", "s", s.Type); err != nil || len(elements) != 20000 {
		t.Errorf("%d elements, %v", len(elements), err)
	}
}

// A long read holds up neither a transaction, however large, nor whoever has no time to wait for his turn.
func TestReadHoldsUpNobody(t *testing.T) {
	netns.Enter(t)
	c := open(t)
	w, err := c.Watch()
	netns.Require(t, err)
	defer w.Close()
	r, err := OpenReader(Config{})
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
	request := r.request(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, func(b *batch) {
		b.str(unix.NFTA_SET_ELEM_LIST_TABLE, "t")
		b.str(unix.NFTA_SET_ELEM_LIST_SET, "s")
	})
	if err := r.exchange(t.Context(), request, func([]byte) { during() }); err != nil {
		t.Error(err)
	}
	if elements, err := r.Elements(t.Context(), "t", "s", s.Type); err != nil || len(elements) != 2*n {
		t.Error("nothing was committed while the set was read")
	}
}

// What the kernel lacks is named together with the version that has it.
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

// Open tries what is needed, and does not even send anything for what is not.
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

// Where a map's deletion does not let go of its chains in time, maps are flushed first. The kernel of the test does:
// that it is busy comes from a chain in use.
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
	busy := requirement{Policies, "deletion", "1.2", steps(mapped, func(t *nft.Table) {
		if !c.flushMaps {
			t.DeleteChain("chain")
		}
	})}
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
	e := &encoder{tx: sampleTransaction()}
	if err := e.encode(); err != nil {
		f.Fatal(err)
	}
	f.Add(e.buf)
	for _, m := range e.messages {
		f.Add(e.buf[m.start:])
		f.Add(e.buf[m.start+headerLen:])
	}
	f.Fuzz(func(_ *testing.T, b []byte) {
		v := verdict{encoder: e}
		v.read(b)
		_ = v.err()
		w := Watcher{}
		w.decode(b)
		counterOf(b)
		comment(b)
		if len(b) >= headerLen {
			elementAt(b, len(b)/2)
		}
		for _, family := range nft.Families() {
			for fields := nft.Addr; fields <= nft.AddrProtoPort; fields++ {
				d := elementDecoder{typ: nft.SetType{Family: family, Fields: fields, Map: true}}
				d.message(b)
				d.element(b)
				d.finish()
			}
		}
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

// Encoding and decoding an element are inverse.
func FuzzElement(f *testing.F) {
	f.Add(uint8(4), uint8(0), make([]byte, 16), make([]byte, 16), uint8(6), uint16(80))
	f.Add(uint8(6), uint8(1), make([]byte, 16), []byte(strings.Repeat("\xff", 16)), uint8(6), uint16(80))
	f.Fuzz(func(t *testing.T, family, fields uint8, a, b []byte, proto uint8, port uint16) {
		typ := nft.SetType{Family: nft.IPv4, Fields: nft.Fields(fields % 4)}
		if family%2 == 0 {
			typ.Family = nft.IPv6
		}
		k := randomKey(typ, a, b, proto, port)
		tx := &nft.Transaction{Table: "t", Ops: []nft.Op{{
			Verb:     nft.AddElements,
			Set:      &nft.Set{Name: "s", Type: typ},
			Elements: []nft.Element{{Key: k, Value: nft.Value{Comment: "c"}}},
		}}}
		e := &encoder{tx: tx}
		if err := e.encode(); err != nil {
			t.Skip(err)
		}
		d := elementDecoder{typ: typ}
		for _, body := range messages(e.buf) {
			d.message(body[headerLen-unix.NLMSG_HDRLEN:])
		}
		got := d.finish()
		if len(got) != 1 || got[0].Element != tx.Ops[0].Elements[0] {
			t.Errorf("%+v came back as %+v", tx.Ops[0].Elements, got)
		}
	})
}

// randomKey returns a key with only those fields set that count in a set of type typ.
func randomKey(typ nft.SetType, a, b []byte, proto uint8, port uint16) nft.Key {
	address := func(b []byte) [16]byte {
		fixed := make([]byte, addrLen(typ.Family))
		copy(fixed, b)
		return addrOf(fixed)
	}
	k := nft.Key{Addr: address(a)}
	switch typ.Fields {
	case nft.AddrRange, nft.AddrAddr:
		k.To = address(b)
	case nft.AddrProtoPort:
		k.Proto, k.Port = proto, port
	}
	return k
}
