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
		return s.index.IPs(types.NamespacedName{Namespace: namespace, Name: pod})
	}})
	for i, f := range flows {
		from := s.index.Owner(f.Src)
		if from == nil {
			flows[i].FromNode, flows[i].ToNode = slices.Contains(own, f.Src), slices.Contains(own, f.Dst)
			continue
		}
		host := slices.ContainsFunc(s.index.Hosts(f.Dst), func(p *pod) bool { return p.Node == from.Node })
		if host || s.index.IsLocal(from) && slices.Contains(own, f.Dst) {
			flows[i].ToNode = true
		}
	}
	return flows, err
}
