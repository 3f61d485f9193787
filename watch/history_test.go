// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// TestHistory keeps the newest lines, and tells a reader who was too slow how many he missed.
func TestHistory(t *testing.T) {
	h := newDropHistory()
	for i := range 5 {
		h.add(DropRecord{Count: i})
	}
	lines, next, missed, more := h.from(0)
	if len(lines) != 5 || next != 5 || missed != 0 || lines[4].Count != 4 {
		t.Errorf("got %d lines, next %d, missed %d", len(lines), next, missed)
	}
	for i := range maxHistory + 10 {
		h.add(DropRecord{Count: 5 + i})
	}
	select {
	case <-more:
	default:
		t.Error("nobody says that there are more")
	}
	lines, next, missed, _ = h.from(next)
	if len(lines) != maxHistory || missed != 10 || next != maxHistory+15 || lines[0].Count != 15 || lines[maxHistory-1].Count != maxHistory+14 {
		t.Errorf("got %d lines, next %d, missed %d", len(lines), next, missed)
	}
}

// TestTop: the pairs with most packets are known, with how much their counts may be too high, while a scan makes millions of others.
func TestTop(t *testing.T) {
	h := newDropHistory()
	count := func(n uint32) {
		a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		h.count(pairKey{src: a}, func() DropPair { return DropPair{Src: DropPeer{Address: a}} })
	}
	const often, scanned = 4000, 1_000_000
	for i := range uint32(scanned) {
		count(1000 + i)
		if i%(scanned/often) == 0 {
			count(1)
			count(2)
		}
	}
	if len(h.pairs) > maxPairs || len(h.fewest) != len(h.pairs) {
		t.Errorf("%d pairs are kept, %d in the heap", len(h.pairs), len(h.fewest))
	}
	top := h.top(func(DropPair) bool { return true })
	found := 0
	for _, p := range top.Pairs[:10] {
		if n := p.Src.Address.As4()[3]; p.Src.Address.As4()[1] == 0 && (n == 1 || n == 2) {
			found++
			if p.Count < often || p.Count-p.Excess > often+1 {
				t.Errorf("%s: count %d with excess %d, want %d", p.Src.Address, p.Count, p.Excess, often)
			}
		}
	}
	if found != 2 {
		t.Errorf("the pairs with most packets are not among the first: %v", top.Pairs[:10])
	}
}

// TestNodeHandler asks for lines, follows them, and asks who decides.
func TestNodeHandler(t *testing.T) {
	l, registry := newTestLoop(t, kernelFunc(nil))
	l.Synced()
	server := httptest.NewServer(NodeHandler(l, registry))
	t.Cleanup(server.Close) // after the bodies are closed
	record := func(namespace string) {
		l.history.add(DropRecord{Direction: "ingress", Dst: DropPeer{Namespace: namespace, Pod: namespace + "/a"}, Text: "one " + namespace})
	}
	record("shop")
	record("bank")
	get := func(path string) (*bufio.Scanner, int) {
		response, err := http.Get(server.URL + path) //nolint:noctx // of a test
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return bufio.NewScanner(response.Body), response.StatusCode
	}
	texts := func(path string) (all []string) {
		for lines, _ := get(path); lines.Scan(); {
			var line DropLine
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				t.Fatalf("%s: %v", lines.Text(), err)
			}
			all = append(all, line.Text)
		}
		return all
	}
	if got := fmt.Sprint(texts("/drops")); got != "[one shop one bank]" {
		t.Errorf("/drops: %s", got)
	}
	if got := fmt.Sprint(texts("/drops?namespace=bank")); got != "[one bank]" {
		t.Errorf("/drops of a namespace: %s", got)
	}
	followed, _ := get("/drops?follow=true&namespace=shop")
	for i := range 3 {
		if !followed.Scan() {
			t.Fatalf("line %d: %v", i, followed.Err())
		}
		record("bank")
		record("shop")
	}
	for path, want := range map[string]int{
		"/explain?src=1.2.3.4&dst=1.2.3.4:80": http.StatusOK, "/explain?src=no&dst=1.2.3.4:80": http.StatusBadRequest,
		"/explain": http.StatusBadRequest, "/drops/top": http.StatusOK, "/readyz": http.StatusOK,
	} {
		if _, got := get(path); got != want {
			t.Errorf("%s: status %d, want %d", path, got, want)
		}
	}
	public := httptest.NewServer(Handler(l, registry))
	t.Cleanup(public.Close)
	server = public
	for _, path := range []string{"/drops", "/drops/top", "/explain?src=1.2.3.4&dst=1.2.3.4:80"} {
		if _, got := get(path); got != http.StatusNotFound {
			t.Errorf("%s for everybody: status %d", path, got)
		}
	}
}

// TestExplainVerify: what the kernel does not hold is said.
func TestExplainVerify(t *testing.T) {
	l, _ := newTestLoop(t, kernelFunc(nil))
	if _, err := l.Explain(t.Context(), "1.2.3.4", "ns/a:80", true); err == nil {
		t.Error("an answer before anything is known")
	}
	setPodAt(l, "a", "10.0.0.1")
	denyAll(l, "deny")
	l.Synced()
	e, err := l.Explain(t.Context(), "1.2.3.4", "ns/a:80", true)
	if err != nil {
		t.Fatal(err)
	}
	if e.Allowed || len(e.Flows) != 1 || e.Flows[0].Verdict != "drop" {
		t.Fatalf("got %+v", e)
	}
	if first := e.Flows[0].Rules[0]; !first.Missing || first.Chain != "forward" { // the kernel is a fake
		t.Errorf("got %+v", first)
	}
}
