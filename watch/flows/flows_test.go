// SPDX-License-Identifier: Apache-2.0

package flows_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/types"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/observe"
	"github.com/netpold/netpold/translate/policy"
	watched "github.com/netpold/netpold/watch/flows"
)

const table = "netpold"

// world is a log, the kernel that it reads, and the state in which it looks up names.
type world struct {
	*testing.T
	log   *watched.Log
	lines bytes.Buffer

	mu    sync.Mutex // guards the fields below
	sets  map[string][]nft.Counted
	err   error
	state *translate.State
}

func newWorld(t *testing.T, most uint32) *world {
	w := &world{T: t, sets: make(map[string][]nft.Counted),
		state: translate.New("node", translate.Options{Observe: most})}
	w.log = watched.New(watched.Config{Max: most, Table: table, Node: "node", Reads: w,
		Log: slog.New(slog.NewTextHandler(&w.lines, nil)),
		View: func(look func(*translate.State)) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			look(w.state)
			return true
		},
		Addresses: func() ([]netip.Addr, error) { return []netip.Addr{netip.MustParseAddr("169.254.20.10")}, nil },
	})
	w.state.Leaving(w.log.Left)
	w.log.Made(table)
	return w
}

// Elements returns the kernel's elements.
func (w *world) Elements(_ context.Context, in, set string, _ nft.SetType) ([]nft.Counted, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	elements, there := w.sets[in+"/"+set]
	if !there {
		return nil, cmp.Or(w.err, fs.ErrNotExist)
	}
	return slices.Clone(elements), w.err
}

// pod reports a pod, or, without addresses, that it is gone.
func (w *world) pod(name string, addresses ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := policy.Pod{NamespacedName: types.NamespacedName{Namespace: "shop", Name: name}, Node: "node", Running: true,
		Owner: "StatefulSet/" + name, Labels: map[string]string{"app": name}}
	if len(addresses) == 0 {
		w.state.DeletePod(p.NamespacedName)
		return
	}
	for _, a := range addresses {
		p.IPs = append(p.IPs, netip.MustParseAddr(a))
	}
	w.state.SetPod(p)
}

// held sets the kernel's count of a flow, and how long ago its last packet was.
func (w *world) held(in string, kind observe.Kind, flow string, packets uint64, ago time.Duration) {
	var from, to, proto string
	var port uint16
	if n, err := fmt.Sscanf(flow, "%s > %s %s %d", &from, &to, &proto, &port); n != 4 {
		w.Fatal(flow, err)
	}
	key := nft.PairKey(netip.MustParseAddr(from), netip.MustParseAddr(to))
	key.Proto, key.Port = map[string]uint8{"tcp": nft.TCP, "icmp": nft.ICMP}[proto], port
	family := nft.FamilyOf(netip.MustParseAddr(from))
	e := nft.Counted{Element: nft.Element{Key: key}, Packets: packets,
		Left: uint64((observe.Timeout*time.Second - ago) / time.Millisecond)}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range observe.Sets(9) {
		if s.Kind != kind || s.Type.Family != family {
			continue
		}
		name := in + "/" + s.Name
		i := slices.IndexFunc(w.sets[name], func(other nft.Counted) bool { return other.Key == key })
		if i < 0 {
			i = len(w.sets[name])
			w.sets[name] = append(w.sets[name], e)
		}
		w.sets[name][i] = e
	}
}

// read reads the kernel.
func (w *world) read() {
	w.Helper()
	if err := w.log.Read(w.Context()); err != nil {
		w.Error(err)
	}
}

// known returns the log's flows, each as "from > to service verdict count".
func (w *world) known(query string) []string {
	w.Helper()
	r := httptest.NewRecorder()
	w.log.ServeFlows(r, httptest.NewRequest(http.MethodGet, "/flows?"+query, nil))
	all, err := flows.Read(r.Body)
	if err != nil || r.Code != http.StatusOK {
		w.Fatal(r.Code, err)
	}
	var texts []string
	for _, f := range all {
		texts = append(texts, text(f))
	}
	slices.Sort(texts)
	return texts
}

func text(f flows.Flow) string {
	return fmt.Sprintf("%s > %s %s %s %d", f.From, f.To, f.Service(), f.Verdict, f.Count)
}

func (w *world) expect(want ...string) {
	w.Helper()
	slices.Sort(want)
	if diff := gocmp.Diff(want, w.known("")); diff != "" {
		w.Errorf("-want +got\n%s", diff)
	}
}

const (
	ask  = "10.0.0.1 > 10.0.0.2 tcp 80"
	ping = "fd00::1 > fd00::2 icmp 0"
)

// TestRead: counts are added up, whatever the kernel forgets, and denied flows are kept apart.
func TestRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 9)
		w.pod("web", "10.0.0.1", "fd00::1")
		w.pod("db", "10.0.0.2")
		w.expect()
		start := time.Now()
		w.held(table, observe.All, ask, 1, 2*time.Second)
		w.held(table, observe.All, ping, 7, 0)
		w.held(table, observe.Denied, ping, 7, 0)
		w.expect("shop/web > fd00::2 ICMP denied 7", "shop/web > shop/db TCP 80 allowed 1")
		time.Sleep(time.Minute)
		w.held(table, observe.All, ask, 3, 0)
		w.held(table, observe.Denied, ask, 1, time.Second)
		w.held(table, observe.All, ping, 7, time.Minute)
		w.held(table, observe.Denied, ping, 7, time.Minute)
		w.read()
		w.read()
		w.expect("shop/web > fd00::2 ICMP denied 7", "shop/web > shop/db TCP 80 allowed 2",
			"shop/web > shop/db TCP 80 denied 1")
		w.held(table, observe.All, ask, 2, 0) // another element, as the other was over
		w.expect("shop/web > fd00::2 ICMP denied 7", "shop/web > shop/db TCP 80 allowed 4",
			"shop/web > shop/db TCP 80 denied 1")

		r := httptest.NewRecorder()
		w.log.ServeFlows(r, httptest.NewRequest(http.MethodGet, "/flows", nil))
		all, err := flows.Read(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		got := all[slices.IndexFunc(all, func(f flows.Flow) bool { return f.Port == 80 && f.Verdict == flows.Allowed })]
		want := flows.Flow{From: end("web", "10.0.0.1"), To: end("db", "10.0.0.2"), Protocol: "tcp", Port: 80, Count: 4,
			First: start.Add(-2 * time.Second), Last: start.Add(time.Minute), Verdict: flows.Allowed, Node: "node"}
		if diff := gocmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

func end(name, address string) flows.End {
	return flows.End{Address: netip.MustParseAddr(address), Namespace: "shop", Pod: "shop/" + name,
		Workload: "StatefulSet/" + name, Labels: map[string]string{"app": name}}
}

// TestReadLate: a denied flow is never reported as allowed for long, and flows that the first set had no room for are
// reported.
func TestReadLate(t *testing.T) {
	w := newWorld(t, 9)
	w.held(table, observe.All, ask, 5, 0)
	w.expect("10.0.0.1 > 10.0.0.2 TCP 80 allowed 5")
	w.held(table, observe.Denied, ask, 5, 0)
	w.held(table, observe.Denied, ping, 3, 0)
	w.expect("10.0.0.1 > 10.0.0.2 TCP 80 denied 5", "fd00::1 > fd00::2 ICMP denied 3")
	w.held(table, observe.All, ask, 6, 0)
	w.expect("10.0.0.1 > 10.0.0.2 TCP 80 allowed 1", "10.0.0.1 > 10.0.0.2 TCP 80 denied 5",
		"fd00::1 > fd00::2 ICMP denied 3")
}

// TestPort0: a scan of port 0, which flows cannot have, does not hide the others.
func TestPort0(t *testing.T) {
	w := newWorld(t, 9)
	w.held(table, observe.All, "10.0.0.9 > 10.0.0.2 tcp 0", 1, 0)
	w.held(table, observe.Denied, "10.0.0.9 > 10.0.0.2 tcp 0", 1, 0)
	w.held(table, observe.All, ping, 1, 0)
	w.expect("fd00::1 > fd00::2 ICMP allowed 1")
}

// TestNames: names are those at the time of the connection. They are also found for a pod that has just gone, and for
// one that becomes known just after.
func TestNames(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 9)
		w.pod("job", "10.0.0.1")
		w.held(table, observe.All, ask, 1, time.Second)
		w.pod("job")
		w.expect("shop/job > 10.0.0.2 TCP 80 allowed 1")
		w.pod("db", "10.0.0.2")
		w.expect("shop/job > shop/db TCP 80 allowed 1")
		w.held(table, observe.All, ask, 2, 0)
		w.expect("shop/job > shop/db TCP 80 allowed 2")
		w.pod("web", "10.0.0.1")
		w.held(table, observe.All, ask, 5, 0)
		w.held(table, observe.All, "10.0.0.1 > 169.254.20.10 tcp 53", 1, 0)
		w.held(table, observe.All, "10.0.0.1 > 10.0.0.3 tcp 53", 1, 0)
		want := []string{"shop/job > shop/db TCP 80 allowed 2", "shop/web > 10.0.0.3 TCP 53 allowed 1",
			"shop/web > 169.254.20.10 (node) TCP 53 allowed 1", "shop/web > shop/db TCP 80 allowed 3"}
		w.expect(want...)
		time.Sleep(time.Minute)
		w.read()
		w.pod("late", "10.0.0.3") // has nothing to do with what was there a minute before
		w.pod("db")
		w.expect(want...)
		time.Sleep(time.Minute)
		w.read()
		w.held(table, observe.All, ask, 6, 0)
		w.expect(append(want, "shop/web > 10.0.0.2 TCP 80 allowed 1")...)
	})
}

// TestRetired: each connection is counted once, even when tables take turns, one of them a previous process's.
func TestRetired(t *testing.T) {
	w := newWorld(t, 9)
	const handover = "netpold-handover"
	w.log = watched.New(watched.Config{Max: 9, Table: table, Reads: w, Log: slog.New(slog.DiscardHandler),
		View: func(look func(*translate.State)) bool { look(w.state); return true }})
	w.held(table, observe.All, ask, 4, 0)
	w.held(table, observe.Lost, "0.0.0.0 > 255.255.255.255 tcp 0", 6, 0)
	w.expect() // whose table is that?
	w.log.Made(handover)
	w.held(handover, observe.All, ask, 1, 0)
	w.log.Retired(t.Context(), w, table)
	w.expect("10.0.0.1 > 10.0.0.2 TCP 80 allowed 4")
	w.log.Retired(t.Context(), w, table) // the transaction failed, and comes again
	w.expect("10.0.0.1 > 10.0.0.2 TCP 80 allowed 4")
	w.log.Made(table)
	w.held(table, observe.All, ask, 2, 0)
	w.held(table, observe.Lost, "0.0.0.0 > 255.255.255.255 tcp 0", 2, 0)
	w.expect("10.0.0.1 > 10.0.0.2 TCP 80 allowed 6")
	w.held(table, observe.All, ask, 3, 0)
	w.log.Retired(t.Context(), w, handover)
	w.expect("10.0.0.1 > 10.0.0.2 TCP 80 allowed 8")
	w.held(table, observe.All, ask, 9, 0)
	w.log.Retired(t.Context(), w, table)
	w.expect("10.0.0.1 > 10.0.0.2 TCP 80 allowed 14")
	if m := w.metrics(); m["netpold_flow_connections_total"] != 10 || m["netpold_flows_lost_total"] != 2 {
		t.Errorf("%v: of a table of before, or not of the others", m)
	}
}

// TestBounds: of too many flows, those seen last are kept.
func TestBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 8)
		for i := range 40 {
			time.Sleep(time.Second)
			w.held(table, observe.All, fmt.Sprintf("10.0.0.%d > 10.0.1.1 tcp 80", i), 1, 0)
			w.read()
			if n := len(w.known("")); n > 16 || n < min(i, 14) {
				t.Fatalf("%d flows after %d", n, i)
			}
		}
		if last := w.known("since=2s500ms"); len(last) != 3 || !strings.HasPrefix(last[2], "10.0.0.39") {
			t.Errorf("%q", last)
		}
	})
}

// TestLost: connections that were not counted are in the state and the metric at once, and in a line once a minute.
func TestLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2)
		w.held(table, observe.All, ask, 1, 0)
		lose := func(n uint64) {
			w.held(table, observe.Lost, "0.0.0.0 > 255.255.255.255 tcp 0", n, 0)
			w.read()
		}
		for range 3 {
			lose(5)
		}
		lose(7)
		if got := strings.Count(w.lines.String(), "level=WARN"); got != 1 ||
			!strings.Contains(w.lines.String(), "connections=5 max=2") {
			t.Errorf("%d lines: %s", got, w.lines.String())
		}
		time.Sleep(2 * time.Minute)
		lose(7)
		if !strings.Contains(w.lines.String(), "connections=2 max=2") {
			t.Error(w.lines.String())
		}
		if s := *w.log.State(); s != (watched.State{Known: 1, Held: 1, Max: 2, Lost: 7}) {
			t.Errorf("%+v", s)
		}
		want := map[string]float64{"netpold_flows": 1, "netpold_flow_set_fill_ratio": 0.5,
			"netpold_flow_connections_total": 1, "netpold_flows_lost_total": 7}
		if diff := gocmp.Diff(want, w.metrics()); diff != "" {
			t.Errorf("-want +got\n%s", diff)
		}
	})
}

// metrics returns the log's metrics.
func (w *world) metrics() map[string]float64 {
	w.Helper()
	values := make(map[string]float64)
	registry := prometheus.NewRegistry()
	registry.MustRegister(w.log.Collectors()...)
	families, err := registry.Gather()
	if err != nil {
		w.Error(err)
	}
	for _, f := range families {
		m := f.GetMetric()[0]
		values[f.GetName()] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
	}
	return values
}

// TestFollow: a follower gets what is known, then what changes, filtered as requested.
func TestFollow(t *testing.T) {
	w := newWorld(t, 9)
	w.pod("web", "10.0.0.1")
	w.held(table, observe.All, ask, 1, 0)
	w.held(table, observe.All, "10.0.0.3 > 10.0.0.4 tcp 80", 1, 0)
	server := httptest.NewServer(http.HandlerFunc(w.log.ServeFlows))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"?follow=true&namespace=shop", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := server.Client().Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close() //nolint:errcheck // only read from
	reader := flows.NewReader(bufio.NewReader(answer.Body))
	next := func(want string) {
		t.Helper()
		if f, err := reader.Next(); err != nil || text(f) != want {
			t.Errorf("%s, %v, want %s", text(f), err, want)
		}
	}
	next("shop/web > 10.0.0.2 TCP 80 allowed 1")
	w.held(table, observe.All, "10.0.0.3 > 10.0.0.4 tcp 80", 2, 0)
	w.held(table, observe.All, ask, 3, 0)
	w.held(table, observe.Denied, ask, 2, 0)
	w.read()
	next("shop/web > 10.0.0.2 TCP 80 denied 2")
	w.held(table, observe.All, ask, 4, 0)
	w.read()
	next("shop/web > 10.0.0.2 TCP 80 allowed 2")
}

// TestErrors: errors are reported, and nothing is made up.
func TestErrors(t *testing.T) {
	w := newWorld(t, 9)
	for query, want := range map[string]int{"since=x": http.StatusBadRequest, "": http.StatusOK} {
		r := httptest.NewRecorder()
		w.log.ServeFlows(r, httptest.NewRequest(http.MethodGet, "/flows?"+query, nil))
		if r.Code != want {
			t.Errorf("%q: %d %s", query, r.Code, r.Body)
		}
	}
	w.err = errors.New("broken")
	for range 2 {
		r := httptest.NewRecorder()
		w.log.ServeFlows(r, httptest.NewRequest(http.MethodGet, "/flows", nil))
		if r.Code != http.StatusInternalServerError || !strings.Contains(r.Body.String(), "broken") {
			t.Errorf("%d %s", r.Code, r.Body)
		}
	}
	if s := w.log.State(); !strings.Contains(s.Error, "broken") || strings.Count(w.lines.String(), "WARN") != 1 {
		t.Errorf("%+v %s", s, w.lines.String())
	}
	off := watched.New(watched.Config{})
	r := httptest.NewRecorder()
	off.ServeFlows(r, httptest.NewRequest(http.MethodGet, "/flows", nil))
	if r.Code != http.StatusNotFound || !strings.Contains(r.Body.String(), "--observe") || off.State() != nil ||
		len(off.Collectors()) != 0 {
		t.Errorf("off: %d %s", r.Code, r.Body)
	}
}

// TestRun: the kernel is read every few seconds, and less often if that takes long.
func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 9)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { w.log.Run(ctx); close(done) }()
		w.held(table, observe.All, ask, 1, 0)
		time.Sleep(6 * time.Second)
		if w.log.State().Known != 1 {
			t.Error("not read in 6 s")
		}
		cancel()
		<-done
	})
}
