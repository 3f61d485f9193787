// SPDX-License-Identifier: Apache-2.0

package message

import (
	"flag"
	"fmt"
	"maps"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
)

// Flags to run other seeds, or a single one: go test ./nft/kernel/message -run=EncodeRandom -seed=7 -clusters=1
var (
	firstSeed = flag.Uint64("seed", 0, "the first seed of the random clusters")
	clusters  = flag.Uint64("clusters", 500, "how many random clusters are encoded")
)

// TestEncodeRandom: whatever a cluster's policies say, its transactions can be encoded, both the first one and those of
// changes, with exactly the wanted elements. Nothing is committed.
func TestEncodeRandom(t *testing.T) {
	var transactions, elements int
	for seed := *firstSeed; seed < *firstSeed+*clusters; seed++ {
		r := random.Source(seed)
		g := random.NewGenerator(r, random.SizeOf(seed))
		c := g.Cluster()
		options := translate.Options{LogGroup: uint16(seed % 2)}
		if seed%3 == 0 {
			options.Deny, options.Established = nft.Reject, frame.Recheck
		}
		s := translate.New(random.Nodes()[0], options)
		s.Add(c)
		for step := range 4 {
			n, err := encodeAll(s.Complete().Take())
			if err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			transactions++
			elements += n
			for range 1 + r.IntN(4) {
				e := g.Event(c)
				e.Apply(s)
				e.ApplyTo(c)
			}
		}
	}
	t.Logf("seeds %d to %d: %d transactions, %d elements", *firstSeed, *firstSeed+*clusters-1, transactions, elements)
}

// encodeAll encodes a transaction, and compares its elements with those decoded from the encoding. It returns their
// number.
func encodeAll(tx *nft.Transaction) (int, error) {
	if tx == nil {
		return 0, nil
	}
	e := &Encoder{Tx: tx}
	if err := e.Encode(); err != nil {
		return 0, err
	}
	decoders := make(map[int]*Elements) // by operation
	for i, m := range e.Messages {
		if m.Op == NoOp || tx.Ops[m.Op].Verb != nft.AddElements {
			continue
		}
		if decoders[m.Op] == nil {
			decoders[m.Op] = &Elements{Type: tx.Ops[m.Op].Set.Type}
		}
		end := len(e.Buf)
		if i+1 < len(e.Messages) {
			end = e.Messages[i+1].Start
		}
		decoders[m.Op].Message(e.Buf[m.Start+HeaderLen : end])
	}
	n := 0
	for i, d := range decoders {
		op := &tx.Ops[i]
		want := make(map[nft.Key]nft.Value)
		for _, el := range op.Elements {
			want[el.Key] = el.Value
		}
		got := make(map[nft.Key]nft.Value)
		for _, el := range d.Finish() {
			got[el.Key] = el.Value
		}
		if !maps.Equal(got, want) {
			return 0, fmt.Errorf("%s: the kernel would hold %v, want %v", op.Describe(), got, want)
		}
		n += len(want)
	}
	return n, nil
}
