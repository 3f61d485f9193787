// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
)

// HashLen is the length of a [Hash]: 60 bits, so that nobody who may write policies can find a name that takes over
// another tenant's objects.
const HashLen = 12

// Hash names content, in letters and digits. Fields are length-prefixed, so that no two lists of fields collide.
func Hash(fields ...string) string {
	var b []byte
	for _, f := range fields {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(f))), f...)
	}
	sum := sha256.Sum256(b)
	// Crockford's alphabet: no letter looks like a digit.
	return base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").EncodeToString(sum[:])[:HashLen]
}
