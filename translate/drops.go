// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// Isolation is what the chain of an isolation stands for. The prefix of a logged packet is the name of its chain.
type Isolation struct {
	Direction policy.Direction
	Policies  []types.NamespacedName // sorted; not to be changed
	More      int                    // policies beyond them, of which nothing but the number is known
}

// IsolationOf returns what a chain stands for, and false for a name that no isolation can have. Of a chain that is not
// in the table any more, or was a previous process's, the name itself tells the first policy and how many more there
// were.
func (s *State) IsolationOf(chain string) (Isolation, bool) {
	if iso := s.chains[chain]; iso != nil {
		return Isolation{Direction: iso.direction, Policies: iso.policies}, true
	}
	return parseIsolationName(chain)
}

// DirectionOf returns the direction of the isolation that has a chain of that name, and false for a name that none can
// have.
func DirectionOf(chain string) (policy.Direction, bool) {
	for _, d := range policy.Directions() {
		if rest, ok := strings.CutPrefix(chain, d.String()+"-"); ok && len(rest) > hashLen && rest[hashLen] == '-' {
			return d, true
		}
	}
	return 0, false
}

// parseIsolationName reads what isolationName wrote. The name of the policy may have been cut.
func parseIsolationName(chain string) (Isolation, bool) {
	d, ok := DirectionOf(chain)
	if !ok {
		return Isolation{}, false
	}
	namespace, name, ok := strings.Cut(chain[len(d.String())+1+hashLen+1:], "/")
	if !ok {
		return Isolation{}, false
	}
	iso := Isolation{Direction: d}
	if first, more, found := strings.Cut(name, "/and-"); found {
		name = first
		iso.More, _ = strconv.Atoi(strings.TrimSuffix(more, "-more")) // 0 in a name that we did not write
	}
	iso.Policies = []types.NamespacedName{{Namespace: namespace, Name: name}}
	return iso, true
}

// PodAt returns the pod that owns an address. An IPv4-mapped IPv6 address is nobody's: on the wire it is no IPv4
// address.
func (s *State) PodAt(a netip.Addr) (policy.Pod, bool) {
	p := s.owners[a]
	if p == nil {
		return policy.Pod{}, false
	}
	return p.public(), true
}

// HostAt returns the name of the node that has an address, as far as its pods of the host network tell.
func (s *State) HostAt(a netip.Addr) (string, bool) {
	pods := s.hosts[a]
	if len(pods) == 0 {
		return "", false
	}
	return slices.MinFunc(pods, foremost).node.Value(), true
}

// replaceHost takes old out of the pods of the host network at its addresses, and adds next; either may be nil.
func (s *State) replaceHost(old, next *pod) {
	if next != nil && next.host {
		for _, a := range next.ips {
			s.hosts[a] = append(s.hosts[a], next)
		}
	}
	if old == nil || !old.host {
		return
	}
	for _, a := range old.ips {
		s.hosts[a] = slices.DeleteFunc(s.hosts[a], func(p *pod) bool { return p == old })
		if len(s.hosts[a]) == 0 {
			delete(s.hosts, a)
		}
	}
}

// Excerpt returns the part of the state that decides about a flow: the pods at its ends, their namespaces, and the
// policies that isolate them. Its cost does not depend on the size of the cluster, but for a pod of another node, or
// one that has just changed, on the number of policies in its namespace.
func (s *State) Excerpt(f policy.Flow) *policy.Cluster {
	c := &policy.Cluster{Namespaces: make(map[string]map[string]string), PodToNode: s.options.PodToNode}
	c.Guard = s.policyGuard()
	var names []types.NamespacedName
	var pods []*pod
	for _, a := range []netip.Addr{f.Src, f.Dst} {
		pods = append(pods, s.hosts[a]...)
		p := s.owners[a]
		if p == nil {
			continue
		}
		pods = append(pods, p)
		c.Quarantines = append(c.Quarantines, s.quarantinesOf(p)...)
		c.OverLimit = append(c.OverLimit, s.excessOf(p)...)
		if ns := p.identity.namespace; ns.known {
			c.Namespaces[ns.name] = ns.labels
		}
		names = append(names, s.isolating(p)...)
	}
	for i, p := range pods {
		if !slices.Contains(pods[:i], p) {
			c.Pods = append(c.Pods, p.public())
		}
	}
	slices.SortFunc(names, func(a, b types.NamespacedName) int { return strings.Compare(a.String(), b.String()) })
	for _, name := range slices.Compact(names) {
		if p := s.policy(name); p != nil { // else deleted since the isolation was made
			c.Policies = append(c.Policies, p.source())
		}
	}
	return c
}

// isolating returns the policies that select a pod, some of them twice. Isolations are made for pods of this node only,
// and may be of before.
func (s *State) isolating(p *pod) []types.NamespacedName {
	var names []types.NamespacedName
	if _, dirty := s.dirtyIdentities[p.identity]; p.node == s.node && !dirty {
		for _, iso := range p.identity.isolations {
			if iso != nil {
				names = append(names, iso.policies...)
			}
		}
		return names
	}
	for _, np := range p.identity.namespace.policies {
		if np.pods.Matches(p.identity.labels) {
			names = append(names, np.name)
		}
	}
	return names
}
