// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
)

// TestAnswersInFlight: while a transaction is in flight, however long, everybody gets an answer: of what was denied,
// too.
func TestAnswersInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := make(gate)
		k := kernelFunc(g.apply)
		l, registry := newTestLoop(t, k)
		handler := NodeHandler(l, registry)
		denyAll(l, "deny")
		setPodAt(l, "a", "10.0.0.1")
		l.Synced()
		g.next()
		g.open()
		k.denied = 5
		want := func(total string) {
			t.Helper()
			for path, want := range map[string]string{
				"/metrics": `netpold_dropped_packets_total{direction="ingress",namespace="ns"} ` + total + "\n",
				"/status":  `"version"`, "/readyz": "", "/livez": "ok",
				"/explain?src=10.9.9.9&dst=ns/a:80&verify=true": "denied", "/drops": "", "/drops/top": "since",
			} {
				w := httptest.NewRecorder()
				// If it waits, the test ends here: everybody sleeps.
				handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
			}
		}
		setPodAt(l, "b", "10.0.0.2")
		g.next()
		want("5")
		k.denied = 7
		want("7")
		g.open()
		l.Drifted("nft")
		g.next()
		want("7")
		k.denied = 0
		g.open()
		want("7")
		k.denied = 2
		want("9")
	})
}

// A ledger is a kernel of one set that counts, in which anything may happen while it is read.
type ledger struct {
	*rand.Rand
	denied    *denied
	elements  map[nft.Key]uint64
	sent      uint64 // packets that an element has counted
	hooked    bool
	reading   bool       // somebody's read goes on
	remaining []func()   // of what the loop does now
	echo      nft.Result // of the transaction in flight
	failing   bool       // the ledger lets transactions fail
	failed    bool       // one has: the table is replaced next
	reported  uint64     // the last total
}

var ledgerSet = translate.DeniedSets()[0]

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

func (k *ledger) counted(key nft.Key, packets uint64) nft.Counted {
	e := nft.Element{Key: key, Value: nft.Value{Comment: "ns/pod"}}
	return nft.Counted{Element: e, Count: nft.Count{Packets: packets}}
}

func (k *ledger) Element(context.Context, string, *nft.Set, nft.Key) (nft.Counted, error) {
	return nft.Counted{}, fs.ErrNotExist
}

func (k *ledger) Rules(context.Context, string, *nft.Chain) ([]nft.HeldRule, error) { return nil, nil }

func (k *ledger) Generation(context.Context) (uint32, error) { return 0, nil }
func (*ledger) Settle(context.Context) error                 { return nil }

func (k *ledger) key() nft.Key {
	return nft.AddrKey(netip.AddrFrom4([4]byte{10, 0, 0, byte(k.IntN(3))}))
}

// meanwhile lets something happen during a read of somebody's; the loop's own is in its turn.
func (k *ledger) meanwhile() {
	for k.reading && k.IntN(3) > 0 {
		reading := k.reading
		k.reading = false
		k.step()
		k.reading = reading
	}
}

// step sends a packet, or lets the loop do what it does next.
func (k *ledger) step() {
	if k.IntN(3) > 0 {
		key := k.key()
		if _, ok := k.elements[key]; ok && k.hooked {
			k.elements[key]++
			k.sent++
		}
		return
	}
	if len(k.remaining) == 0 {
		if k.failed || k.IntN(5) == 0 {
			k.remaining = k.replacement()
		} else {
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
	return []func(){func() { k.denied.begin(tx) }, commit, func() { k.denied.end("table", k.echo, err) }}
}

// replacement replaces the table.
func (k *ledger) replacement() []func() {
	return []func(){
		func() { k.hooked = false },
		func() { k.denied.retired(context.Background(), k, "table") },
		func() { clear(k.elements) },
		func() { k.elements[k.key()], k.elements[k.key()] = 0, 0 },
		func() { k.hooked = true },
		func() { k.denied.made("table"); k.failed = false },
	}
}

// check wants the total not to go down, and never to be more than was sent.
func (k *ledger) check(t *testing.T) {
	t.Helper()
	var total uint64
	for _, packets := range k.denied.totals(func(string) bool { return true }) {
		total += packets
	}
	if total < k.reported || total > k.sent {
		t.Fatalf("the total went from %d to %d, and %d were sent", k.reported, total, k.sent)
	}
	k.reported = total
}

// TestDeniedIsExact: whatever transactions come while the kernel is read, every packet is counted once, and no total
// goes down. What an element has counted since the last read is lost only if a transaction fails that may have deleted
// it.
func TestDeniedIsExact(t *testing.T) {
	for seed := range uint64(2000) {
		k := &ledger{
			Rand: rand.New(rand.NewPCG(seed, 0)), denied: newDenied(), elements: make(map[nft.Key]uint64),
			failing: seed%2 > 0,
		}
		k.remaining = k.replacement()[2:]
		for range 200 {
			if k.IntN(5) > 0 {
				k.step()
			} else {
				k.reading = true
				if err := k.denied.read(t.Context(), k); err != nil && !errors.Is(err, errLeaving) {
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
		if err := k.denied.read(t.Context(), k); err != nil {
			t.Error(err)
		}
		if k.check(t); !k.failing && k.reported != k.sent {
			t.Fatalf("seed %d: the total is %d of %d that were sent; elements %v", seed, k.reported, k.sent, before)
		}
	}
}

// TestDeniedWaits: who cannot read the kernel in time has the totals of the last time, and is told.
func TestDeniedWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _ := newTestLoop(t, kernelFunc(nil))
		l.denied.reading <- struct{}{} // somebody who takes long
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.Denied(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		<-l.denied.reading
	})
}
