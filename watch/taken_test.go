// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"slices"
	"testing"
	"testing/synctest"
)

// TestTakenAway: if another program has deleted the table, packets pass until it is back, so netpold does not first try
// a transaction that must fail.
func TestTakenAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernelFunc(nil)
		l, _ := newTestLoop(t, k)
		denyAll(l, "deny")
		l.Synced()
		synctest.Wait()
		k.calls, k.hooked["netpold"] = nil, false
		l.Drifted("nft")
		synctest.Wait()
		want := []string{"delete netpold", "replace netpold", "delete netpold-handover"}
		if !slices.Equal(k.calls, want) {
			t.Errorf("the kernel was asked to %v, want %v", k.calls, want)
		}
	})
}
