// SPDX-License-Identifier: Apache-2.0

package policy

// Direction is the direction of a flow as the selected pod sees it.
type Direction uint8

// The two directions.
const (
	Egress Direction = iota
	Ingress
)

// Directions returns both directions, in the order in which a packet meets them.
func Directions() [2]Direction { return [...]Direction{Egress, Ingress} }

// String returns "egress" or "ingress".
func (d Direction) String() string {
	if d == Egress {
		return "egress"
	}
	return "ingress"
}
