// SPDX-License-Identifier: Apache-2.0

package index

import (
	"cmp"
	"net/netip"
	"slices"
	"time"
	"unique"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// Pod is a pod of the index. It is replaced, never edited. There are as many as in the cluster, so what many share is
// stored once: namespace, labels and ports in the identity, the names of nodes and owners as handles.
type Pod[I, S any] struct {
	Text     string // namespace/name
	Identity *Identity[I, S]
	Node     unique.Handle[string]

	ips     []netip.Addr
	owner   unique.Handle[string]
	created int64 // microseconds since 1970
	index   int32 // in the pods of the identity
	host    bool  // in the host network
	running bool
	ending  bool   // Pod.Terminating
	hushed  bool   // a sandbox decides its addresses
	serial  uint64 // of the sandbox that it stands for; 0 if it is the API's
	stale   bool   // the sandbox is
}

// newPod returns p with an identity that already counts it.
func (x *Index[I, S]) newPod(p *policy.Pod, id *Identity[I, S]) *Pod[I, S] {
	next := &Pod[I, S]{
		Text: p.String(), Identity: id, ips: p.IPs,
		Node: unique.Make(p.Node), owner: unique.Make(p.Owner), created: p.Created.UnixMicro(),
		host: p.HostNetwork, running: p.Running, ending: p.Terminating,
	}
	next.index = int32(len(id.pods))
	id.pods = append(id.pods, next)
	return next
}

// Name returns the name of the pod within its namespace.
func (p *Pod[I, S]) Name() string { return p.Text[len(p.Identity.Namespace.Name)+1:] }

// Public returns the pod as given.
func (p *Pod[I, S]) Public() policy.Pod {
	return policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: p.Identity.Namespace.Name, Name: p.Name()},
		Node:           p.Node.Value(),
		Labels:         p.Identity.Labels(),
		IPs:            p.ips,
		Ports:          p.Identity.Ports,
		HostNetwork:    p.host,
		Running:        p.running,
		Terminating:    p.ending,
		Created:        time.UnixMicro(p.created).UTC(),
		Owner:          p.owner.Value(),
	}
}

// Claims returns the addresses at which policy may know the pod.
func (p *Pod[I, S]) Claims() []netip.Addr {
	if p == nil || p.host || p.hushed {
		return nil
	}
	return p.ips
}

// is says whether policy cannot tell p from q, which has the same name.
func (p *Pod[I, S]) is(q *policy.Pod) bool {
	return p.Identity.is(q) && slices.Equal(p.ips, q.IPs) && p.host == q.HostNetwork && p.running == q.Running &&
		p.ending == q.Terminating && p.created == q.Created.UnixMicro() &&
		p.Node.Value() == q.Node && p.owner.Value() == q.Owner
}

// idle says whether a pod has no address that policies know.
func idle(p *policy.Pod) bool { return p.HostNetwork || len(p.IPs) == 0 }

// Pod returns the pod of that name, or nil.
func (x *Index[I, S]) Pod(name types.NamespacedName) *Pod[I, S] {
	if ns := x.namespaces[name.Namespace]; ns != nil {
		return ns.Pods[name.Name]
	}
	return nil
}

// SetPod adds p or replaces the pod of its name. The index keeps p's labels and slices; the caller must not change them
// afterwards.
func (x *Index[I, S]) SetPod(p policy.Pod) {
	old := x.Pod(p.NamespacedName)
	if old != nil && old.is(&p) {
		return
	}
	var id *Identity[I, S]
	if old != nil && old.Identity.is(&p) {
		id = old.Identity
	} else {
		id = x.identityOf(&p)
	}
	next := x.newPod(&p, id)
	id.Namespace.Pods[next.Name()] = next
	next.hushed = x.hushes(next)
	x.replacePod(old, next)
	x.restand(p.NamespacedName)
}

// DeletePod forgets a pod.
func (x *Index[I, S]) DeletePod(name types.NamespacedName) {
	old := x.Pod(name)
	if old == nil {
		return
	}
	delete(old.Identity.Namespace.Pods, name.Name)
	x.replacePod(old, nil)
	x.restand(name)
}

// replacePod moves the claims of old to next; either may be nil.
func (x *Index[I, S]) replacePod(old, next *Pod[I, S]) {
	x.replaceHost(old, next)
	for _, a := range next.Claims() {
		x.contend(a, old, next)
	}
	for _, a := range old.Claims() {
		if !slices.Contains(next.Claims(), a) {
			x.contend(a, old, nil)
		}
	}
	if next != nil && next.Node == x.node && next.serial == 0 {
		x.local[next] = struct{}{}
	}
	if old != nil {
		delete(x.local, old)
		x.leaveIdentity(old)
	}
}

// contend replaces old's claim to an address by next's, and gives the address to the foremost claimant. Two pods have
// one address when one of them is about to go: its address is already free, but the kubelet has not said so yet.
func (x *Index[I, S]) contend(a netip.Addr, old, next *Pod[I, S]) {
	owner := x.owners[a]
	claims := x.rivals[a]
	if claims == nil && owner != nil {
		claims = []*Pod[I, S]{owner}
	}
	claims = slices.DeleteFunc(slices.Clone(claims), func(p *Pod[I, S]) bool { return p == old })
	if next != nil {
		claims = append(claims, next)
	}
	if len(claims) > 1 {
		x.rivals[a] = claims
	} else {
		delete(x.rivals, a)
	}
	var first *Pod[I, S]
	if len(claims) > 0 {
		first = slices.MinFunc(claims, foremost)
	}
	if first != owner {
		x.setOwner(a, owner, first)
	}
}

// foremost orders the pods that claim one address: those of live sandboxes, then those that are not terminating, then
// the newest, as an address is never given out before its last pod has left it, whatever the kubelet still reports.
// Between pods created in the same second, phase and name decide.
func foremost[I, S any](p, q *Pod[I, S]) int {
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
		cmp.Compare(p.Text, q.Text))
}

// setOwner takes an address from one pod and gives it to another; either may be nil.
func (x *Index[I, S]) setOwner(a netip.Addr, from, to *Pod[I, S]) {
	if from != nil && to != nil && from.Text == to.Text && from.Identity == to.Identity && from.Node == to.Node {
		x.owners[a] = to // such as when a pod starts to run or terminate: elements do not change
		if to.Node == x.node {
			to.Identity.Local[a] = to
		}
		return
	}
	if from != nil {
		x.detach(a, from)
		delete(x.owners, a)
	}
	if to != nil {
		x.owners[a] = to
		x.attach(a, to)
	}
}

// attach gives an address to p.
func (x *Index[I, S]) attach(a netip.Addr, p *Pod[I, S]) {
	if x.IsLocal(p) {
		if p.Identity.Local == nil {
			p.Identity.Local = make(map[netip.Addr]*Pod[I, S])
		}
		x.inhabited[p.Identity] = struct{}{}
		p.Identity.Local[a] = p
	}
	x.user.Attach(a, p)
}

// detach takes an address from p.
func (x *Index[I, S]) detach(a netip.Addr, p *Pod[I, S]) {
	if x.IsLocal(p) {
		if delete(p.Identity.Local, a); len(p.Identity.Local) == 0 {
			delete(x.inhabited, p.Identity)
		}
	}
	x.user.Detach(a, p)
}

// IsLocal says whether p is on this node.
func (x *Index[I, S]) IsLocal(p *Pod[I, S]) bool { return p.Node == x.node }

// Node returns the name of this node.
func (x *Index[I, S]) Node() string { return x.node.Value() }

// Local returns the pods of this node, including the host network's; read-only.
func (x *Index[I, S]) Local() map[*Pod[I, S]]struct{} { return x.local }

// Owner returns the pod that owns an address, or nil. Nobody owns an IPv4-mapped IPv6 address: on the wire it is not an
// IPv4 address.
func (x *Index[I, S]) Owner(a netip.Addr) *Pod[I, S] { return x.owners[a] }

// Hosts returns the host-network pods that have an address.
func (x *Index[I, S]) Hosts(a netip.Addr) []*Pod[I, S] { return x.hosts[a] }

// Host returns the name of the node that has an address, as far as its host-network pods tell.
func (x *Index[I, S]) Host(a netip.Addr) (string, bool) {
	pods := x.hosts[a]
	if len(pods) == 0 {
		return "", false
	}
	return slices.MinFunc(pods, foremost).Node.Value(), true
}

// IPs returns the addresses of the pod of that name, if there is one.
func (x *Index[I, S]) IPs(name types.NamespacedName) ([]netip.Addr, bool) {
	p := x.Pod(name)
	for _, b := range x.sandboxesOf[name] {
		if p == nil || p.hushed {
			return b.IPs, true
		}
	}
	if p == nil {
		return nil, false
	}
	return p.ips, true
}

// replaceHost replaces old by next among the host-network pods at their addresses; either may be nil.
func (x *Index[I, S]) replaceHost(old, next *Pod[I, S]) {
	if next != nil && next.host {
		for _, a := range next.ips {
			x.hosts[a] = append(x.hosts[a], next)
		}
	}
	if old == nil || !old.host {
		return
	}
	for _, a := range old.ips {
		x.hosts[a] = slices.DeleteFunc(x.hosts[a], func(p *Pod[I, S]) bool { return p == old })
		if len(x.hosts[a]) == 0 {
			delete(x.hosts, a)
		}
	}
}
