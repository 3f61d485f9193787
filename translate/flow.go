// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/policy"
)

// ParseFlows is as [policy.Cluster.ParseFlows]; own are the addresses of the state's node.
func (s *State) ParseFlows(src, dst string, own []netip.Addr) ([]policy.Flow, error) {
	names := func(yield func(string) bool) {
		for name := range s.Pods() {
			if !yield(name.String()) {
				return
			}
		}
	}
	flows, err := policy.ParseFlows(src, dst, policy.PodBook{Names: names, IPs: func(name string) ([]netip.Addr, bool) {
		namespace, pod, _ := strings.Cut(name, "/")
		return s.ipsOf(types.NamespacedName{Namespace: namespace, Name: pod})
	}})
	for i, f := range flows {
		from := s.owners[f.Src]
		if from == nil {
			flows[i].FromNode, flows[i].ToNode = slices.Contains(own, f.Src), slices.Contains(own, f.Dst)
			continue
		}
		host := slices.ContainsFunc(s.hosts[f.Dst], func(p *pod) bool { return p.node == from.node })
		if host || from.node == s.node && slices.Contains(own, f.Dst) {
			flows[i].ToNode = true
		}
	}
	return flows, err
}

// ipsOf returns the addresses of the pod of that name, if there is one.
func (s *State) ipsOf(name types.NamespacedName) ([]netip.Addr, bool) {
	p := s.pod(name)
	for _, b := range s.sandboxesOf[name] {
		if p == nil || p.hushed {
			return b.IPs, true
		}
	}
	if p == nil {
		return nil, false
	}
	return p.ips, true
}
