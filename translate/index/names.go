// SPDX-License-Identifier: Apache-2.0

package index

import (
	"iter"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// PodNames yields the names of all pods.
func (x *Index[I, S]) PodNames() iter.Seq[types.NamespacedName] {
	return func(yield func(types.NamespacedName) bool) {
		for _, ns := range x.namespaces {
			for name := range ns.Pods {
				if !yield(types.NamespacedName{Namespace: ns.Name, Name: name}) {
					return
				}
			}
		}
	}
}

// NamespaceNames yields the names, in Name, of all namespaces that have been set.
func (x *Index[I, S]) NamespaceNames() iter.Seq[types.NamespacedName] {
	return func(yield func(types.NamespacedName) bool) {
		for _, ns := range x.namespaces {
			if ns.Known && !yield(types.NamespacedName{Name: ns.Name}) {
				return
			}
		}
	}
}

// ParseFlows is like [policy.Cluster.ParseFlows]; own are the addresses of the index's node.
func (x *Index[I, S]) ParseFlows(src, dst string, own []netip.Addr) ([]policy.Flow, error) {
	names := func(yield func(string) bool) {
		for name := range x.PodNames() {
			if !yield(name.String()) {
				return
			}
		}
	}
	flows, err := policy.ParseFlows(src, dst, policy.PodBook{Names: names, IPs: func(name string) ([]netip.Addr, bool) {
		namespace, pod, _ := strings.Cut(name, "/")
		return x.IPs(types.NamespacedName{Namespace: namespace, Name: pod})
	}})
	for i, f := range flows {
		if from := x.Owner(f.Src); from != nil {
			flows[i].ToNode = x.nodeHas(from, f.Dst, own)
			continue
		}
		flows[i].FromNode, flows[i].ToNode = slices.Contains(own, f.Src), slices.Contains(own, f.Dst)
		flows[i].ToOwnPod = x.nodeHas(x.Owner(f.Dst), f.Src, own)
	}
	return flows, err
}

// nodeHas says whether an address is one of the pod's node. False without a pod.
func (x *Index[I, S]) nodeHas(p *Pod[I, S], a netip.Addr, own []netip.Addr) bool {
	return p != nil && (x.IsLocal(p) && slices.Contains(own, a) ||
		slices.ContainsFunc(x.Hosts(a), func(host *Pod[I, S]) bool { return host.Node == p.Node }))
}

// LocalAddresses yields the addresses of some identities' pods on this node.
func LocalAddresses[I, S any](of map[*Identity[I, S]]struct{}) iter.Seq[netip.Addr] {
	return func(yield func(netip.Addr) bool) {
		for id := range of {
			for a := range id.Local {
				if !yield(a) {
					return
				}
			}
		}
	}
}
