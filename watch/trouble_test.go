// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"testing"

	"github.com/netpold/netpold/translate/book"
)

// TestTroubleLines: each kind of trouble has its own words.
func TestTroubleLines(t *testing.T) {
	kinds := make(map[string]book.TroubleKind)
	for _, kind := range book.TroubleKinds() {
		line := troubleLine(kind)
		if other, twice := kinds[line]; twice {
			t.Errorf("%s and %s are told in the same words: %s", kind, other, line)
		}
		kinds[line] = kind
	}
}
