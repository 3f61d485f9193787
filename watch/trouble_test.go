// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"testing"

	"github.com/netpold/netpold/translate/book"
)

// TestTroubleLines: no kind of trouble is told in the words of another.
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
