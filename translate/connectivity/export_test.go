// SPDX-License-Identifier: Apache-2.0

package connectivity

import "net/netip"

// ClassOf returns the number of the class of an address, if it is in use.
func (m *Matrix) ClassOf(a netip.Addr) (class int, known bool) {
	class, known = m.classAt[a]
	return class, known
}
