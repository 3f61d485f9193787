// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"iter"

	"github.com/netpold/netpold/translate/book"
)

// Troubles yields what is currently wrong with policies, in no order. Its cost does not depend on the size of the
// cluster.
func (s *State) Troubles() iter.Seq[book.Trouble] {
	return func(yield func(book.Trouble) bool) {
		for _, some := range []iter.Seq[book.Trouble]{
			s.quarantined, s.overLimits, s.policies.Rejections(), s.clusterPolicies.Rejections(),
		} {
			for t := range some {
				if !yield(t) {
					return
				}
			}
		}
	}
}

// TroubleVersion changes whenever the result of [State.Troubles] does.
func (s *State) TroubleVersion() uint64 { return s.troubleVersion + s.policies.Version }
