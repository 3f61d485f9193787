// SPDX-License-Identifier: Apache-2.0

package random

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// addTier records the edges of the rules of a ClusterNetworkPolicy.
func (f *Flows) addTier(c *policy.Cluster, p policy.ClusterPolicy) {
	var subjects ends
	for _, pod := range c.Pods {
		if p.Selects(c.Namespaces[pod.Namespace], pod.Labels) {
			f.add(&subjects, pod.IPs...)
		}
	}
	for _, d := range policy.Directions() {
		for _, r := range p.Rules(d) {
			f.addTierRule(aim{pods: subjects, egress: d == policy.Egress}, c, r)
		}
	}
}

func (f *Flows) addTierRule(a aim, c *policy.Cluster, r policy.ClusterRule) {
	for _, peer := range r.Peers {
		for _, text := range peer.Networks {
			if p, err := netip.ParsePrefix(string(text)); err == nil {
				first, last := p.Masked().Addr(), nft.LastAddr(p)
				f.add(&a.blocks, first.Prev(), first, first.Next(), last.Prev(), last, last.Next())
			}
		}
		if peer.Nodes == nil {
			continue
		}
		for _, n := range c.NodePeers {
			f.add(&a.blocks, n.Addresses...)
		}
	}
	for family, edges := range a.blocks {
		f.all[family] = append(f.all[family], edges...)
	}
	for _, p := range r.Protocols {
		proto, port := policy.ClusterPort(p)
		switch {
		case port == nil:
			a.services = append(a.services, f.named[p.DestinationNamedPort]...)
		case port.Range != nil:
			a.services = append(a.services, around(proto, port.Range.Start)...)
			a.services = append(a.services, around(proto, port.Range.End)...)
		default:
			a.services = append(a.services, around(proto, port.Number)...)
		}
	}
	f.aims = append(f.aims, a)
}

// around returns a port and its neighbours.
func around(proto uint8, port int32) []service {
	all := []service{}
	for n := port - 1; n <= port+1; n++ {
		if 0 < n && n < 65536 {
			all = append(all, service{proto, uint16(n)})
		}
	}
	return all
}

// clusterPolicyText is a ClusterNetworkPolicy for a manifest, with its unknown fields.
type clusterPolicyText struct{ policy.ClusterPolicy }

// MarshalJSON writes the policy.
func (p clusterPolicyText) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(p.ClusterNetworkPolicy)
	if err != nil {
		return nil, err
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		return nil, err
	}
	delete(object, "status")
	for _, u := range p.Unread {
		put(object, u.Path)
	}
	return json.Marshal(object)
}

// put sets the field at a path, or further up if there is no such list element.
func put(object map[string]any, path string) {
	for {
		name, rest, deeper := strings.Cut(path, ".")
		if !deeper {
			object[name] = map[string]any{}
			return
		}
		var next any
		if list, index, ok := strings.Cut(strings.TrimSuffix(name, "]"), "["); ok {
			elements, _ := object[list].([]any)
			var i int
			if _, err := fmt.Sscan(index, &i); err == nil && i < len(elements) {
				next = elements[i]
			}
		} else {
			next = object[name]
		}
		inner, ok := next.(map[string]any)
		if !ok {
			object["except"] = map[string]any{}
			return
		}
		object, path = inner, rest
	}
}
