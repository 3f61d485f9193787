// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/cpu"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/watch"
)

// TestLarge: a thousand isolations with 500 peers each, and a policy with 5,000 ports, come into force at a start and
// after the table is replaced, and other writers of nf_tables get their turn meanwhile.
func TestLarge(t *testing.T) {
	const isolations, groups, perGroup, ports = 1000, 10, 500, 5000
	l := newLimits(t)
	for i := range groups * perGroup {
		l.pod(fmt.Sprintf("client-%d", i), fmt.Sprintf("client-%d", i%groups), "other", 10_000+i)
	}
	db := make([]netip.Addr, isolations)
	for i := range db {
		name := fmt.Sprintf("db-%d", i)
		db[i] = l.pod(name, name, node, i)
		l.allow(name, name, fmt.Sprintf("client-%d", i%groups), 5432)
	}
	l.set(manyPorts(ports))

	others := newOtherWriter(t)
	loop := l.loop()
	loop.Synced()
	others.until(func() bool { return loop.Status().InSync })
	others.report("start")
	l.check(db)
	loop.Drifted("test")
	others.until(func() bool { s := loop.Status(); return s.InSync && s.Recoveries == 1 })
	others.report("replacement")
	l.check(db)
}

// manyPorts returns a policy that allows all pods to reach db-0 on every other port from 20000.
func manyPorts(n int) *networkingv1.NetworkPolicy {
	peer := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}}
	rule := networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{peer}}
	for i := range n {
		rule.Ports = append(rule.Ports, port(20_000+2*i))
	}
	return policyFor("ports", "db-0", rule)
}

// loop returns a loop that runs on the state.
func (l *limits) loop() *watch.Loop { return l.loopOn(l.conn) }

// check counts the elements in the kernel, and sends packets.
func (l *limits) check(db []netip.Addr) {
	l.Helper()
	total := 0
	for _, set := range l.state.Complete().Sets() {
		elements, err := l.conn.Elements(l.Context(), frame.TableName, set.Name, set.Type)
		if err != nil || len(elements) != set.Len() {
			l.Fatalf("set %s has %d elements in the kernel (%v), want %d", set.Name, len(elements), err, set.Len())
		}
		total += len(elements)
	}
	if total < 500_000 {
		l.Errorf("%d elements, want 500,000", total)
	}
	client := func(i int) netip.Addr { n := 10_000 + i; return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)}) }
	var probes []prober.Probe
	var want []bool
	for i, a := range db {
		probes = append(probes,
			prober.Probe{Src: client(i % 10), Dst: a, Proto: nft.TCP, DstPort: 5432},
			prober.Probe{Src: client((i + 1) % 10), Dst: a, Proto: nft.TCP, DstPort: 5432})
		want = append(want, true, false)
	}
	for i := range uint16(10_000) {
		probes = append(probes, prober.Probe{Src: client(7), Dst: db[0], Proto: nft.TCP, DstPort: 20_000 + i})
		want = append(want, i%2 == 0)
	}
	got, err := l.prober.Run(probes)
	if err != nil {
		l.Fatal(err)
	}
	for i := range got {
		if got[i] != want[i] {
			l.Fatalf("%s: forwarded %t", probes[i], got[i])
		}
	}
}

// otherWriter is another program that keeps changing its own table, as kube-proxy does.
type otherWriter struct {
	*testing.T
	conn  *kernel.Conn
	table *nft.Table
	set   *nft.Set
	waits []time.Duration
	unit  time.Duration // the longest of some transactions of unitElements without other writers
	cpu   time.Duration // the most CPU time of one of them
}

// The other writer's waits are measured in transactions with some kernel work, which a busy machine slows down as much
// as the waits; an empty one, of 0.01 ms, would be too short for that. It may wait for 60 of them: 10,000 elements take
// 10 to 20 ms, netpold's portions up to 200 ms, and without portions it was 5 s and more.
const (
	unitElements = 10_000
	longestRatio = 60
)

func newOtherWriter(t *testing.T) *otherWriter {
	w := &otherWriter{T: t, conn: open(t), table: nft.NewTable("other", "")}
	w.set = w.table.Set("set", nft.SetType{Family: nft.IPv4}, "")
	for range 10 {
		table := nft.NewTable("unit", "")
		set := table.Set("set", nft.SetType{Family: nft.IPv4}, "")
		for i := range unitElements {
			set.Want(nft.AddrKey(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})), nft.Value{})
		}
		tx := table.Take()
		began, used := time.Now(), cpu.Thread()
		if _, err := w.conn.Apply(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		w.unit, w.cpu = max(w.unit, time.Since(began)), max(w.cpu, cpu.Thread()-used)
	}
	if err := w.conn.DeleteTable(t.Context(), "unit"); err != nil {
		t.Fatal(err)
	}
	return w
}

// until writes until done, at least once.
func (w *otherWriter) until(done func() bool) {
	w.Helper()
	key := nft.AddrKey(netip.IPv4Unspecified())
	for deadline := time.Now().Add(time.Minute); len(w.waits) == 0 || !done(); {
		if w.set.Len() == 0 {
			w.set.Want(key, nft.Value{})
		} else {
			w.set.Unwant(key)
		}
		began := time.Now()
		if _, err := w.conn.Apply(w.Context(), w.table.Take()); err != nil {
			w.Fatal(err)
		}
		w.waits = append(w.waits, time.Since(began))
		if time.Now().After(deadline) {
			w.Fatal("the table is not in force after a minute")
		}
	}
}

// report logs the longest write, which must not be long.
func (w *otherWriter) report(what string) {
	w.Helper()
	longest := slices.Max(w.waits)
	ratio := float64(longest) / float64(w.unit)
	w.Logf("%s: another writer made %d changes, the longest took %v, as long as %.1f transactions of %d elements (%v)",
		what, len(w.waits), longest, ratio, unitElements, w.unit)
	if ratio > longestRatio {
		w.Errorf("%s: another writer waited %v, as long as %.1f transactions of %d elements", what, longest,
			ratio, unitElements)
	}
	w.waits = nil
}
