// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/policy"
)

// workload is a workload with its pods: those of the cluster, and those that are gone and were seen.
type workload struct {
	connectivity.Workload
	pods     []*policy.Pod
	selected *selection // once it was asked for
}

// end is an end of a flow: a pod of a workload, or else an address.
type end struct {
	address  netip.Addr
	pod      *policy.Pod
	workload *workload
	host     bool
}

func (e end) in(namespace string) bool { return e.workload != nil && e.workload.Namespace == namespace }

// roster is the workloads of a cluster that policies can select.
type roster struct {
	workloads map[connectivity.Workload]*workload
	pods      map[string]*policy.Pod // by namespace/name, those in the host network too
	owners    map[netip.Addr]*policy.Pod
	hosts     map[netip.Addr]bool
	gone      map[string]end
}

func newRoster(c *policy.Cluster) roster {
	r := roster{workloads: make(map[connectivity.Workload]*workload), pods: make(map[string]*policy.Pod),
		owners: make(map[netip.Addr]*policy.Pod), hosts: make(map[netip.Addr]bool), gone: make(map[string]end)}
	for i := range c.Pods {
		p := &c.Pods[i]
		r.pods[p.String()] = p
		for _, a := range p.IPs {
			if p.HostNetwork {
				r.hosts[a] = true
			} else if r.owners[a] == nil {
				r.owners[a] = c.Owner(a)
			}
		}
		if !p.HostNetwork {
			r.add(connectivity.WorkloadOf(p), p)
		}
	}
	return r
}

// add adds a pod to a workload.
func (r roster) add(name connectivity.Workload, p *policy.Pod) *workload {
	w := r.workloads[name]
	if w == nil {
		w = &workload{Workload: name}
		r.workloads[name] = w
	}
	w.pods = append(w.pods, p)
	return w
}

// in returns the workloads of a namespace, sorted.
func (r roster) in(namespace string) []*workload {
	var all []*workload
	for _, w := range r.workloads {
		if w.Namespace == namespace {
			all = append(all, w)
		}
	}
	slices.SortFunc(all, func(a, b *workload) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
	})
	return all
}

// end returns what an end of a flow is, or why it cannot be said.
func (r roster) end(e flows.End) (end, string) {
	p := r.pods[e.Pod]
	if e.Pod == "" && !e.Host {
		p = r.owners[e.Address]
	}
	switch {
	case p != nil && !p.HostNetwork:
		return end{address: e.Address, pod: p, workload: r.workloads[connectivity.WorkloadOf(p)]}, ""
	case p != nil, e.Host, e.Pod == "":
		return end{address: e.Address, host: e.Host || p != nil || r.hosts[e.Address]}, ""
	}
	return r.past(e)
}

// past returns the end that a pod was which is gone.
func (r roster) past(e flows.End) (end, string) {
	if known, seen := r.gone[e.Pod]; seen {
		known.address = e.Address
		return known, ""
	}
	namespace, name, _ := strings.Cut(e.Pod, "/")
	kind, owner, owned := strings.Cut(e.Workload, "/")
	if !owned {
		kind, owner = "Pod", name
	}
	id := connectivity.Workload{Namespace: namespace, Kind: kind, Name: owner}
	past := end{address: e.Address, workload: r.workloads[id]}
	switch {
	case e.Labels != nil:
		past.pod = &policy.Pod{NamespacedName: types.NamespacedName{Namespace: namespace, Name: name}, Labels: e.Labels,
			IPs: []netip.Addr{e.Address}}
		past.workload = r.add(id, past.pod)
		r.gone[e.Pod] = past
	case past.workload != nil:
		past.pod = past.workload.pods[0]
	default:
		return end{}, "the pod " + e.Pod + " is gone, and nothing tells its labels"
	}
	return past, ""
}
