// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"context"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
)

// oneFlow is a kernel with a flow in each set.
type oneFlow struct{}

func (oneFlow) Elements(context.Context, string, string, nft.SetType) ([]nft.Counted, error) {
	return []nft.Counted{{Packets: 1}}, nil
}

// TestWallClock: times are compared as they are written, by the wall clock, since readers refuse a flow whose last
// connection is before its first, as after a clock is set back.
func TestWallClock(t *testing.T) {
	r, err := New(Config{Max: 1}).readAll(t.Context(), oneFlow{}, "table")
	if err != nil || len(r.elements) == 0 {
		t.Fatal(r, err)
	}
	for _, c := range r.elements {
		if strings.Contains(c.last.String(), "m=") {
			t.Errorf("%s has a monotonic reading, which comparisons would take", c.last)
		}
	}
}
