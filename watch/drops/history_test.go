// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
)

// TestHistory: the newest lines are kept, and a slow reader learns how many it missed.
func TestHistory(t *testing.T) {
	l := New(Config{})
	for i := range 5 {
		l.remember(Record{Count: i})
	}
	lines, next, missed, more := l.from(0)
	if len(lines) != 5 || next != 5 || missed != 0 || lines[4].Count != 4 {
		t.Errorf("got %d lines, next %d, missed %d", len(lines), next, missed)
	}
	for i := range maxHistory + 10 {
		l.remember(Record{Count: 5 + i})
	}
	select {
	case <-more:
	default:
		t.Error("nobody says that there are more")
	}
	lines, next, missed, _ = l.from(next)
	if len(lines) != maxHistory || missed != 10 || next != maxHistory+15 || lines[0].Count != 15 ||
		lines[maxHistory-1].Count != maxHistory+14 {
		t.Errorf("got %d lines, next %d, missed %d", len(lines), next, missed)
	}
}

// TestTop: the pairs with most packets are known, with the error of their counts, while a scan makes millions of
// others.
func TestTop(t *testing.T) {
	l := New(Config{})
	count := func(n uint32) {
		a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
		l.countPair(&Record{Src: Peer{Address: a}, key: key{src: a}})
	}
	const often, scanned = 4000, 1_000_000
	for i := range uint32(scanned) {
		count(1000 + i)
		if i%(scanned/often) == 0 {
			count(1)
			count(2)
		}
	}
	if p := &l.pairs; len(p.byKey) > maxPairs || len(p.all) != len(p.byKey) {
		t.Errorf("%d pairs are kept, %d by key", len(p.all), len(p.byKey))
	}
	top := l.Top("")
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

// TestServeLines asks for lines, and follows them.
func TestServeLines(t *testing.T) {
	l := New(Config{})
	server := httptest.NewServer(http.HandlerFunc(l.ServeLines))
	t.Cleanup(server.Close) // after the bodies are closed
	record := func(namespace string) {
		l.remember(Record{Direction: "ingress", Dst: Peer{Namespace: namespace, Pod: namespace + "/a"},
			Text: "one " + namespace})
	}
	record("shop")
	record("bank")
	get := func(path string) *bufio.Scanner {
		response, err := http.Get(server.URL + path) //nolint:noctx // of a test
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = response.Body.Close() })
		return bufio.NewScanner(response.Body)
	}
	texts := func(path string) (all []string) {
		for lines := get(path); lines.Scan(); {
			var line Line
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
	followed := get("/drops?follow=true&namespace=shop")
	for i := range 3 {
		if !followed.Scan() {
			t.Fatalf("line %d: %v", i, followed.Err())
		}
		record("bank")
		record("shop")
	}
}
