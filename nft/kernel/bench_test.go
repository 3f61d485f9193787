// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel/message"
	"github.com/netpold/netpold/test/harness/netns"
)

// benchSizes are numbers of elements.
var benchSizes = []int{100, 100000}

// BenchmarkOneElement adds one element to a set, and deletes one, in a transaction each.
func BenchmarkOneElement(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			netns.Enter(b)
			c := open(b)
			table, s := hash(n)
			commit(b, c, table)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if i%2 == 0 {
					s.Want(number(n), nft.Value{})
				} else {
					s.Unwant(number(n))
				}
				commit(b, c, table)
			}
		})
	}
}

// BenchmarkReplace replaces a table with one set.
func BenchmarkReplace(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			netns.Enter(b)
			c := open(b)
			table, _ := hash(n)
			b.ReportAllocs()
			for b.Loop() {
				table.Forget()
				commit(b, c, table)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/element")
		})
	}
}

// BenchmarkRules adds and deletes chains of ten rules.
func BenchmarkRules(b *testing.B) {
	netns.Enter(b)
	c := open(b)
	table, s := hash(100)
	chain := nft.Chain{Name: "c"}
	for i := range 10 {
		chain.Rules = append(chain.Rules, nft.R(
			nft.LookupIn(nft.Source, s),
			nft.Ports{{Proto: nft.TCP, First: uint16(i), Last: uint16(i + 1)}},
			nft.Counter{},
			nft.Verdict{Kind: nft.Accept}))
	}
	commit(b, c, table)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%2 == 0 {
			table.SetChain(&chain)
		} else {
			table.DeleteChain("c")
		}
		commit(b, c, table)
	}
}

// BenchmarkEncode encodes the transaction that replaces a table, without the kernel.
func BenchmarkEncode(b *testing.B) {
	const n = 100000
	table, _ := hash(n)
	tx := table.Take()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		e := message.Encoder{Batch: message.Batch{Buf: buf[:0]}, Tx: tx}
		if err := e.Encode(); err != nil {
			b.Fatal(err)
		}
		buf = e.Buf
	}
	b.SetBytes(int64(len(buf)))
}

// BenchmarkElements reads a set.
func BenchmarkElements(b *testing.B) {
	for _, n := range benchSizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			netns.Enter(b)
			c := open(b)
			table, s := hash(n)
			commit(b, c, table)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Elements(b.Context(), "t", "s", s.Type); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func commit(b *testing.B, c *Conn, table *nft.Table) {
	b.Helper()
	if _, err := c.Apply(b.Context(), table.Take()); err != nil {
		b.Fatal(err)
	}
}
