// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// The names of what every table has.
const (
	TableName     = "netpold"
	HandoverTable = "netpold-handover" // is in force while the table is replaced
	forwardChain  = "forward"
	inputChain    = "input"
	ingressChain  = "ingress"
	alwaysChain   = "always-allowed"
)

// hashLen makes 60 bits of a hash: whoever may write policies cannot search a name that takes over another tenant's
// objects.
const hashLen = 12

// hash names content: fields are length-prefixed, so that no two lists of fields run together.
func hash(fields ...string) string {
	h := sha256.New()
	for _, f := range fields {
		h.Write(binary.BigEndian.AppendUint64(nil, uint64(len(f))))
		h.Write([]byte(f))
	}
	// Crockford's alphabet: no letter looks like a digit.
	return base32.NewEncoding("0123456789ABCDEFGHJKMNPQRSTVWXYZ").EncodeToString(h.Sum(nil))[:hashLen]
}

// maxName keeps a chain's name short enough for the log prefix, which is the name.
const maxName = nft.MaxComment

// isolationName is "<direction>-<hash>-<namespace>/<policy>", and "/and-N-more" when N more policies share the
// isolation: nft(8) loads names of letters, digits and "/-_." only.
func isolationName(d policy.Direction, hash string, policies []types.NamespacedName) string {
	name := fmt.Sprintf("%s-%s-%s", d, hash, policies[0])
	more := ""
	if n := len(policies) - 1; n > 0 {
		more = fmt.Sprintf("/and-%d-more", n)
	}
	if len(name)+len(more) > maxName {
		name = name[:maxName-len(more)]
	}
	return name + more
}

// podsMap names the verdict map that dispatches to a direction's isolations.
func podsMap(d policy.Direction, f nft.Family) string { return fmt.Sprintf("%s-pods-%s", d, f) }

// deniedSet names the set that counts what a direction's isolations deny, and denyChain the chain that looks a packet
// up in it.
func deniedSet(d policy.Direction, f nft.Family) string { return fmt.Sprintf("%s-denied-%s", d, f) }
func denyChain(d policy.Direction) string               { return "deny-" + d.String() }

// refusedSet names the set of the addresses that the kernel does not take into the maps and sets above, and
// refusedChain the chain that denies them.
func refusedSet(d policy.Direction, f nft.Family) string { return fmt.Sprintf("%s-refused-%s", d, f) }
func refusedChain(d policy.Direction) string             { return d.String() + "-refused" }

// unknownChain names the chain of what the guard drops in a direction, and begins the names of the sets that count it.
func unknownChain(d policy.Direction) string { return "unknown-pod-" + d.String() }

// selfSet names the set of isolated pods' addresses, each paired with itself.
func selfSet(f nft.Family) string { return "self-" + f.String() }

// policyList names policies in a comment.
func policyList(policies []types.NamespacedName) string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}
