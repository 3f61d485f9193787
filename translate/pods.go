// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
	"unique"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// pod is a pod of the state. It is not edited but replaced. There are as many as the cluster has, so what many have in
// common is stored once: namespace, labels and ports in the identity, the names of nodes and owners as handles.
type pod struct {
	text     string // namespace/name
	identity *identity
	ips      []netip.Addr
	node     unique.Handle[string]
	owner    unique.Handle[string]
	created  int64 // microseconds since 1970
	index    int32 // in the pods of the identity
	host     bool  // of the host network
	running  bool
	ending   bool   // Pod.Terminating
	hushed   bool   // a sandbox says which addresses it has
	serial   uint64 // of the sandbox that it stands for; 0: it is the API's
	stale    bool   // that sandbox is
}

// newPod returns p with an identity that counts it already.
func (s *State) newPod(p *policy.Pod, id *identity) *pod {
	next := &pod{
		text: p.String(), identity: id, ips: p.IPs,
		node: unique.Make(p.Node), owner: unique.Make(p.Owner), created: p.Created.UnixMicro(),
		host: p.HostNetwork, running: p.Running, ending: p.Terminating,
	}
	next.index = int32(len(id.pods))
	id.pods = append(id.pods, next)
	return next
}

// name is the name of the pod in its namespace.
func (p *pod) name() string { return p.text[len(p.identity.namespace.name)+1:] }

// public returns the pod as it was given.
func (p *pod) public() policy.Pod {
	return policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: p.identity.namespace.name, Name: p.name()},
		Node:           p.node.Value(),
		Labels:         p.identity.labels.set(),
		IPs:            p.ips,
		Ports:          p.identity.ports,
		HostNetwork:    p.host,
		Running:        p.running,
		Terminating:    p.ending,
		Created:        time.UnixMicro(p.created).UTC(),
		Owner:          p.owner.Value(),
	}
}

// claims returns the addresses at which policy may know the pod.
func (p *pod) claims() []netip.Addr {
	if p == nil || p.host || p.hushed {
		return nil
	}
	return p.ips
}

// is says whether policy cannot tell p from q, which has its name.
func (p *pod) is(q *policy.Pod) bool {
	return p.identity.is(q) && slices.Equal(p.ips, q.IPs) && p.host == q.HostNetwork && p.running == q.Running &&
		p.ending == q.Terminating && p.created == q.Created.UnixMicro() &&
		p.node.Value() == q.Node && p.owner.Value() == q.Owner
}

// is says whether p, of the namespace of id, has the identity.
func (id *identity) is(p *policy.Pod) bool {
	return id.idle == idle(p) && id.labels.equal(p.Labels) && slices.Equal(id.ports, p.Ports)
}

// idle says whether policies know the pod at no address.
func idle(p *policy.Pod) bool { return p.HostNetwork || len(p.IPs) == 0 }

// pod returns the pod of that name, or nil.
func (s *State) pod(name types.NamespacedName) *pod {
	if ns := s.namespaces[name.Namespace]; ns != nil {
		return ns.pods[name.Name]
	}
	return nil
}

// SetPod adds p or replaces the pod of its name. The state keeps p's labels and slices; they are not changed
// afterwards.
func (s *State) SetPod(p policy.Pod) {
	old := s.pod(p.NamespacedName)
	if old != nil && old.is(&p) {
		return
	}
	var id *identity
	if old != nil && old.identity.is(&p) {
		id = old.identity
	} else {
		id = s.identityOf(&p)
	}
	next := s.newPod(&p, id)
	id.namespace.pods[next.name()] = next
	next.hushed = s.hushes(next)
	s.replacePod(old, next)
	s.restand(p.NamespacedName)
}

// DeletePod forgets a pod.
func (s *State) DeletePod(name types.NamespacedName) {
	old := s.pod(name)
	if old == nil {
		return
	}
	delete(old.identity.namespace.pods, name.Name)
	s.replacePod(old, nil)
	s.restand(name)
}

// replacePod moves the claims of old to next; either may be nil.
func (s *State) replacePod(old, next *pod) {
	s.replaceHost(old, next)
	for _, a := range next.claims() {
		s.contend(a, old, next)
	}
	for _, a := range old.claims() {
		if !slices.Contains(next.claims(), a) {
			s.contend(a, old, nil)
		}
	}
	if next != nil && next.node == s.node && next.serial == 0 {
		s.nodePods[next] = struct{}{}
	}
	if old != nil {
		delete(s.nodePods, old)
		s.leaveIdentity(old)
	}
}

// contend replaces the claim of old to an address by that of next, and gives the address to the foremost of all that
// claim it. Two pods have one address when one of them is about to go: its address is free already and the kubelet has
// not said so yet.
func (s *State) contend(a netip.Addr, old, next *pod) {
	owner := s.owners[a]
	claims := s.rivals[a]
	if claims == nil && owner != nil {
		claims = []*pod{owner}
	}
	claims = slices.DeleteFunc(slices.Clone(claims), func(p *pod) bool { return p == old })
	if next != nil {
		claims = append(claims, next)
	}
	if len(claims) > 1 {
		s.rivals[a] = claims
	} else {
		delete(s.rivals, a)
	}
	var first *pod
	if len(claims) > 0 {
		first = slices.MinFunc(claims, foremost)
	}
	if first != owner {
		s.setOwner(a, owner, first)
	}
}

// foremost orders the pods that claim one address: those of live sandboxes, then the API's that are not about to go,
// then the newest, as no address is given out before its last pod has left it, whatever the kubelet still says of that
// one. Between pods of one second, phase and name decide.
func foremost(p, q *pod) int {
	last := func(put bool) int {
		if put {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(last(p.stale), last(q.stale)),
		cmp.Compare(q.serial, p.serial),
		cmp.Compare(last(p.ending), last(q.ending)),
		cmp.Compare(q.created, p.created),
		cmp.Compare(last(!p.running), last(!q.running)),
		cmp.Compare(p.text, q.text))
}

// setOwner takes an address from one pod and gives it to another; either may be nil.
func (s *State) setOwner(a netip.Addr, from, to *pod) {
	if from != nil && to != nil && from.text == to.text && from.identity == to.identity && from.node == to.node {
		s.owners[a] = to // as when a pod begins to run, or to terminate: no element says so
		if to.node == s.node {
			to.identity.local[a] = to
		}
		return
	}
	if from != nil {
		s.detach(a, from)
		delete(s.owners, a)
	}
	if to != nil {
		s.owners[a] = to
		s.attach(a, to)
	}
}

// attach adds an address of p to everything that its identity is in.
func (s *State) attach(a netip.Addr, p *pod) {
	id := p.identity
	for _, sel := range id.selectors {
		s.listAddress(sel, a)
		s.addAddresses(sel, 1)
	}
	for iso, g := range id.grants {
		iso.want(s, a, p, g)
	}
	if p.node != s.node {
		return
	}
	if id.local == nil {
		id.local = make(map[netip.Addr]*pod)
	}
	s.countOutside(a, 1)
	if id.local[a] = p; len(id.local) == 1 {
		s.dirtyIdentities[id] = struct{}{}
	}
	s.setDispatch(a, p)
}

// detach removes an address of p from everything that its identity is in.
func (s *State) detach(a netip.Addr, p *pod) {
	id := p.identity
	for _, sel := range id.selectors {
		s.delistAddress(sel, a)
		s.addAddresses(sel, -1)
	}
	for iso, g := range id.grants {
		iso.unwant(s, a, g)
	}
	if p.node != s.node {
		return
	}
	s.countOutside(a, -1)
	delete(id.local, a)
	if len(id.local) == 0 {
		s.dirtyIdentities[id] = struct{}{}
	}
	s.unsetDispatch(a)
}

// setDispatch sends what the pod at a local address sends and gets to the isolations of its identity.
func (s *State) setDispatch(a netip.Addr, p *pod) {
	var ways [2]frame.Way
	for d, iso := range p.identity.isolations {
		if q := s.refusedAt(policy.Direction(d), a); q != nil {
			ways[d].Refused, ways[d].Open = true, q.Open
		}
		if iso != nil {
			ways[d].Chain = iso.name
		}
	}
	if len(s.quarantines) > 0 {
		s.troubleVersion++
	}
	s.frame.SetPod(a, p.text, ways)
}

// unsetDispatch takes a local address out of the maps.
func (s *State) unsetDispatch(a netip.Addr) {
	if len(s.quarantines) > 0 {
		s.troubleVersion++
	}
	s.frame.UnsetPod(a)
}
