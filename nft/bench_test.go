// SPDX-License-Identifier: Apache-2.0

package nft_test

import (
	"fmt"
	"io"
	"net/netip"
	"testing"

	"github.com/netpold/netpold/nft"
)

// large returns a table with one set of n elements, and its keys.
func large(n int) (*nft.Table, *nft.Set, []nft.Key) {
	t := nft.NewTable("t", "")
	s := t.Set("s", nft.SetType{Family: nft.IPv4, Fields: nft.AddrProtoPort}, "")
	keys := make([]nft.Key, n)
	for i := range keys {
		a := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		keys[i] = nft.PortKey(a, nft.TCP, 80)
		s.Want(keys[i], nft.Value{})
	}
	return t, s, keys
}

// BenchmarkChange is the cost of one element deleted, added and made a transaction of, which should not depend on the
// size of the set.
func BenchmarkChange(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t, s, keys := large(n)
			t.Take()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				s.Unwant(keys[i%n])
				t.Take()
				s.Want(keys[i%n], nft.Value{})
				t.Take()
			}
		})
	}
}

// BenchmarkReplace is the cost of the transaction that replaces a table.
func BenchmarkReplace(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			t, _, _ := large(n)
			b.ReportAllocs()
			for b.Loop() {
				t.Forget()
				t.Take()
			}
		})
	}
}

// BenchmarkLoad is the cost of the elements of a new set.
func BenchmarkLoad(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		large(100_000)
	}
}

// BenchmarkText is the cost of a table's text.
func BenchmarkText(b *testing.B) {
	t, _, _ := large(100_000)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := t.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
