// SPDX-License-Identifier: Apache-2.0

package frame

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// The names of what every table has.
const (
	TableName     = "netpold"
	HandoverTable = "netpold-handover" // in force while the table is replaced
	forwardChain  = "forward"
	inputChain    = "input"
	ingressChain  = "ingress"

	forwardIngressChain = "forward-ingress"
	alwaysChain         = "always-allowed"
)

// maxName keeps a chain's name short enough for the log prefix, which is the name.
const maxName = nft.MaxComment

// IsolationName is "<kind>-<hash>-<namespace>/<policy>", and "/and-N-more" when N more policies share the isolation:
// nft(8) loads names of letters, digits and "/-_." only.
func IsolationName(k Kind, hash string, policies []types.NamespacedName) string {
	name := fmt.Sprintf("%s-%s-%s", k, hash, policies[0])
	more := ""
	if n := len(policies) - 1; n > 0 {
		more = fmt.Sprintf("/and-%d-more", n)
	}
	if len(name)+len(more) > maxName {
		name = name[:maxName-len(more)]
	}
	return name + more
}

// Isolation is what an isolation's chain stands for. The prefix of a logged packet is the name of the chain.
type Isolation struct {
	Kind
	Policies []types.NamespacedName // sorted; read-only
	More     int                    // number of further policies, whose names are not known
}

// KindOf returns the kind of the isolation with a chain of that name, and false for a name that none can have.
func KindOf(chain string) (Kind, bool) {
	rest, audit := strings.CutPrefix(chain, "audit-")
	for _, d := range policy.Directions() {
		rest, ok := strings.CutPrefix(rest, d.String()+"-")
		if ok && len(rest) > nft.HashLen && rest[nft.HashLen] == '-' {
			return Kind{d, audit}, true
		}
	}
	return Kind{}, false
}

// ParseIsolationName parses what IsolationName returns, and returns false for a name that no isolation can have. The
// policy's name may be truncated.
func ParseIsolationName(chain string) (Isolation, bool) {
	k, ok := KindOf(chain)
	if !ok {
		return Isolation{}, false
	}
	namespace, name, ok := strings.Cut(chain[len(k.String())+1+nft.HashLen+1:], "/")
	if !ok {
		return Isolation{}, false
	}
	iso := Isolation{Kind: k}
	if first, more, found := strings.Cut(name, "/and-"); found {
		name = first
		iso.More, _ = strconv.Atoi(strings.TrimSuffix(more, "-more")) // 0 in a name that we did not write
	}
	iso.Policies = []types.NamespacedName{{Namespace: namespace, Name: name}}
	return iso, true
}

// podsMap names the verdict map that dispatches to a direction's isolations.
func podsMap(d policy.Direction, f nft.Family) string { return fmt.Sprintf("%s-pods-%s", d, f) }

// deniedSet names the set that counts what a direction's isolations deny, and denyChain the chain that looks up packets
// in it.
func deniedSet(d policy.Direction, f nft.Family) string { return fmt.Sprintf("%s-denied-%s", d, f) }
func denyChain(d policy.Direction) string               { return "deny-" + d.String() }

// refusedSet names the set of addresses that the kernel refuses in the maps and sets above, and refusedChain the chain
// that denies them.
func refusedSet(d policy.Direction, f nft.Family) string { return fmt.Sprintf("%s-refused-%s", d, f) }
func refusedChain(d policy.Direction) string             { return d.String() + "-refused" }

// unknownChain names the chain of what the guard drops in a direction, and begins the names of the sets that count it.
func unknownChain(d policy.Direction) string { return "unknown-pod-" + d.String() }

// selfSet names the set of isolated pods' addresses, each paired with itself.
func selfSet(f nft.Family) string { return "self-" + f.String() }

// PolicyName names a policy; a ClusterNetworkPolicy has no namespace.
func PolicyName(p types.NamespacedName) string {
	if p.Namespace == "" {
		return "ClusterNetworkPolicy " + p.Name
	}
	return p.String()
}

// PolicyList names policies in a comment.
func PolicyList(policies []types.NamespacedName) string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.String()
	}
	return strings.Join(names, ", ")
}
