// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
)

// HashLen is the length of a [Hash]: 60 bits, so that whoever may write policies cannot search a name that takes over
// another tenant's objects.
const HashLen = 12

// Hash names content, in letters and digits: fields are length-prefixed, so that no two lists of fields run together.
func Hash(fields ...string) string {
	h := sha256.New()
	for _, f := range fields {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(f))))
		h.Write([]byte(f))
	}
	// Crockford's alphabet: no letter looks like a digit.
	return base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").EncodeToString(h.Sum(nil))[:HashLen]
}
