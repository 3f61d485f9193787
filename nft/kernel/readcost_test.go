// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/netns"
)

// Reading one element takes as many messages, and about as many allocations, in a set of 100,000 as in a set of ten.
func TestElementCost(t *testing.T) {
	type cost struct {
		requests uint32
		allocs   float64
	}
	for _, fields := range []nft.Fields{nft.Addr, nft.AddrRange} {
		costs := make(map[int]cost)
		for _, n := range []int{10, 100_000} {
			netns.Enter(t)
			c, table := open(t), nft.NewTable("t", "")
			s := table.Set("s", nft.SetType{Family: nft.IPv4, Fields: fields}, "")
			for i := range n {
				k := number(2 * i)
				if fields == nft.AddrRange {
					k.To = number(2*i + 1).Addr
				}
				s.Want(k, nft.Value{})
			}
			if _, err := c.Apply(t.Context(), table.Take()); err != nil {
				t.Fatal(err)
			}
			probe := nft.Key{Addr: number(10).Addr}
			read := func() {
				if e, err := c.Element(t.Context(), "t", s, probe); err != nil || e.Addr != probe.Addr {
					t.Fatalf("%+v, %v", e, err)
				}
			}
			before := sent(t, c.Reader)
			read()
			requests := sent(t, c.Reader) - before - 1
			costs[n] = cost{requests, testing.AllocsPerRun(10, read)}
		}
		if few, many := costs[10], costs[100_000]; few.requests != many.requests || many.requests > 5 ||
			many.allocs > 1.1*few.allocs {
			t.Errorf("fields %d: of ten elements %+v, of 100,000 %+v", fields, few, many)
		} else {
			t.Logf("fields %d: %+v", fields, many)
		}
	}
}

// sent returns the number of the next request. Finding it out takes a request, whose answer is not read.
func sent(t *testing.T, r *Reader) uint32 {
	t.Helper()
	question, err := r.conn.Send(query{typ: unix.NFT_MSG_GETGEN}.message())
	if err != nil {
		t.Fatal(err)
	}
	return question.Header.Sequence
}
