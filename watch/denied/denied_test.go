// SPDX-License-Identifier: Apache-2.0

package denied

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
)

// A ledger is a kernel with a counting set and a chain with a counting rule, in which anything may happen during a
// read.
type ledger struct {
	*rand.Rand
	counter   *Counter
	elements  map[nft.Key]uint64
	chain     *uint64 // nil: it is not there
	leads     bool    // packets come to it
	sent      uint64  // packets that an element or the chain has counted
	hooked    bool
	reading   bool       // somebody's read goes on
	remaining []func()   // of what the loop does now
	echo      nft.Result // of the transaction in flight
	failing   bool       // the ledger lets transactions fail
	failed    bool       // one has: the table is replaced next
	reported  uint64     // the last total
}

var ledgerSet = frame.CountingSets()[0]

// ledgerChain is the chain, as a transaction has it.
var ledgerChain = &nft.Chain{Name: frame.TierRule{Policy: "guard", Index: 1}.Chain()}

func (k *ledger) Elements(_ context.Context, _, set string, _ nft.SetType) ([]nft.Counted, error) {
	if set != ledgerSet.Name {
		return nil, fs.ErrNotExist
	}
	k.meanwhile()
	var all []nft.Counted
	for key, packets := range k.elements {
		all = append(all, k.counted(key, packets))
	}
	k.meanwhile()
	return all, nil
}

func (k *ledger) ChainCount(context.Context, string, string) (uint64, error) {
	k.meanwhile()
	defer k.meanwhile()
	if k.chain == nil {
		return 0, fs.ErrNotExist
	}
	return *k.chain, nil
}

func (k *ledger) counted(key nft.Key, packets uint64) nft.Counted {
	e := nft.Element{Key: key, Value: nft.Value{Comment: "ns/pod"}}
	return nft.Counted{Element: e, Packets: packets}
}

func (k *ledger) key() nft.Key {
	return nft.AddrKey(netip.AddrFrom4([4]byte{10, 0, 0, byte(k.IntN(3))}))
}

// meanwhile makes something happen during a read by others; the loop's own reads are in its turn.
func (k *ledger) meanwhile() {
	for k.reading && k.IntN(3) > 0 {
		reading := k.reading
		k.reading = false
		k.step()
		k.reading = reading
	}
}

// step sends a packet, or lets the loop do its next step.
func (k *ledger) step() {
	if k.IntN(3) > 0 {
		key := k.key()
		if k.chain != nil && k.leads && k.hooked && k.IntN(3) == 0 {
			*k.chain++
			k.sent++
		}
		if _, ok := k.elements[key]; ok && k.hooked {
			k.elements[key]++
			k.sent++
		}
		return
	}
	if len(k.remaining) == 0 {
		switch {
		case k.failed || k.IntN(5) == 0:
			k.remaining = k.replacement()
		case k.IntN(2) == 0:
			k.remaining = k.changeRule()
		default:
			k.remaining = k.change()
		}
	}
	next := k.remaining[0]
	k.remaining = k.remaining[1:]
	next()
}

// change deletes an element and perhaps adds it again.
func (k *ledger) change() []func() {
	key := k.key()
	tx := &nft.Transaction{Table: "table"}
	packets, held := k.elements[key]
	if held {
		set := nft.NewTable("table", "").Set(ledgerSet.Name, ledgerSet.Type, "")
		tx.Ops = []nft.Op{{Verb: nft.DeleteElements, Set: set, Elements: []nft.Element{{Key: key}}}}
	}
	var err error
	commit := func() {
		k.echo = nft.Result{}
		done := true
		if k.failing && k.IntN(4) == 0 {
			err, k.failed = errors.New("failed"), true
			done = k.IntN(2) == 0 // and its answer was lost
		}
		if !done {
			return
		}
		packets = k.elements[key]
		delete(k.elements, key)
		if held && err == nil {
			k.echo.Deleted = map[string][]nft.Counted{ledgerSet.Name: {k.counted(key, packets)}}
		}
		if !held || k.IntN(2) == 0 {
			k.elements[key] = 0
		}
	}
	return []func(){
		func() { k.counter.Begin(context.Background(), k, tx) }, commit, func() { k.counter.End(tx, k.echo, err) },
	}
}

// changeRule removes the references to the chain and then deletes it, or adds it.
func (k *ledger) changeRule() []func() {
	verb := nft.AddChain
	if k.chain != nil {
		verb = nft.DeleteChain
	}
	tx := &nft.Transaction{Table: "table", Ops: []nft.Op{{Verb: verb, Chain: ledgerChain}}}
	var err error
	commit := func() {
		k.failed = k.failing && k.IntN(4) == 0
		if k.failed {
			err = errors.New("failed")
		}
		if k.failed && k.IntN(2) == 0 {
			return
		}
		if k.chain = nil; verb == nft.AddChain {
			k.chain, k.leads = new(uint64), true
		}
	}
	return []func(){
		func() { k.leads = false },
		func() { k.counter.Begin(context.Background(), k, tx) }, commit,
		func() { k.counter.End(tx, nft.Result{}, err) },
	}
}

// replacement replaces the table.
func (k *ledger) replacement() []func() {
	return []func(){
		func() { k.hooked = false },
		func() { k.counter.Retired(context.Background(), k, "table") },
		func() { clear(k.elements); k.chain = nil },
		func() { k.elements[k.key()], k.elements[k.key()] = 0, 0 },
		func() { k.hooked = true },
		func() { k.counter.Made(k.made()); k.failed = false },
	}
}

// made returns the transaction that makes the table.
func (k *ledger) made() *nft.Transaction {
	tx := &nft.Transaction{Table: "table"}
	if k.IntN(2) == 0 {
		k.chain, k.leads = new(uint64), true
		tx.Ops = []nft.Op{{Verb: nft.AddChain, Chain: ledgerChain}}
	}
	return tx
}

// check: the total never goes down, and never exceeds what was sent.
func (k *ledger) check(t *testing.T) {
	t.Helper()
	var total uint64
	for _, packets := range k.counter.Totals(func(By) bool { return true }) {
		total += packets
	}
	if total < k.reported || total > k.sent {
		t.Fatalf("the total went from %d to %d, and %d were sent", k.reported, total, k.sent)
	}
	k.reported = total
}

// TestExact: whatever transactions come while the kernel is read, every packet is counted once, and no total goes down.
// An element's count since the last read is lost only if a transaction that may have deleted it fails.
func TestExact(t *testing.T) {
	for seed := range uint64(2000) {
		k := &ledger{
			Rand: rand.New(rand.NewPCG(seed, 0)), counter: New(), elements: make(map[nft.Key]uint64),
			failing: seed%2 > 0,
		}
		k.remaining = k.replacement()[2:]
		for range 200 {
			if k.IntN(5) > 0 {
				k.step()
			} else {
				k.reading = true
				if err := k.counter.Read(t.Context(), k); err != nil && !errors.Is(err, errLeaving) {
					t.Fatal(err)
				}
				k.reading = false
			}
			k.check(t)
		}
		for len(k.remaining) > 0 || k.failed {
			k.step()
		}
		before := maps.Clone(k.elements)
		if err := k.counter.Read(t.Context(), k); err != nil {
			t.Error(err)
		}
		if k.check(t); !k.failing && k.reported != k.sent {
			t.Fatalf("seed %d: the total is %d of %d that were sent; elements %v", seed, k.reported, k.sent, before)
		}
	}
}

// TestWaits: a reader that cannot read the kernel in time gets an error.
func TestWaits(t *testing.T) {
	c := New()
	c.reading <- struct{}{} // somebody who takes long
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := c.Read(ctx, new(ledger)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// TestNothingCounted: a transaction without counting elements costs next to nothing.
func TestNothingCounted(t *testing.T) {
	c, tx := New(), &nft.Transaction{Table: "table"}
	c.Made(tx)
	for i := range 1000 {
		chain := &nft.Chain{Name: fmt.Sprintf("ingress-AAAAAAAAAAAA-ns/policy-%d", i)}
		tx.Ops = append(tx.Ops, nft.Op{Verb: nft.AddChain, Chain: chain}, nft.Op{Verb: nft.DeleteChain, Chain: chain})
	}
	if n := testing.AllocsPerRun(10, func() {
		c.Begin(t.Context(), nil, tx)
		c.End(tx, nft.Result{}, nil)
	}); n > 10 {
		t.Errorf("%v allocations for 2,000 operations", n)
	}
}
