// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/policy"
)

// workload is a workload with its pods: those of the cluster, and gone ones that were seen. Workloads with
// indistinguishable labels are one, as any selector of one selects all.
type workload struct {
	connectivity.Workload
	also     []connectivity.Workload // those joined with it, sorted
	pods     []*policy.Pod
	sets     []labelSet
	selected *selection // nil until asked for
	text     string     // what rules are sorted by; "" until asked for
}

// labelSet is the labels of pods, without volatile ones, and without the values of labels that a controller sets.
type labelSet struct {
	labels labels.Set
	pods   int
}

// names returns the names of the workloads.
func (w *workload) names() []string {
	names := []string{w.Workload.String()}
	for _, other := range w.also {
		names = append(names, other.String())
	}
	return names
}

// String returns the first few names of the workloads.
func (w *workload) String() string { return few(w.names()) }

// few lists the first few names.
func few(names []string) string {
	const most = 4
	if more := len(names) - most; more > 1 {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

// title returns the name for a workload's policies. For several workloads, that is what their labels call them, unless
// one of them has that name.
func (w *workload) title() string {
	if len(w.also) == 0 {
		return w.Name
	}
	for _, key := range identifying() {
		if value := w.sets[0].labels[key]; value != "" {
			return value
		}
	}
	return w.Name
}

// end is an end of a flow: a pod of a workload, or an address.
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
	pods      map[string]*policy.Pod // by namespace/name, including the host network's
	owners    map[netip.Addr]*policy.Pod
	hosts     map[netip.Addr]bool
	gone      map[string]end

	joined map[*workload]*workload // into which one others were joined
	spaces map[string]*space       // by namespace
}

// space is the workloads of a namespace.
type space struct {
	all    []*workload            // sorted
	labels map[string][]*workload // by key=value of identifying labels
}

func newRoster(c *policy.Cluster) *roster {
	r := &roster{workloads: make(map[connectivity.Workload]*workload), pods: make(map[string]*policy.Pod),
		owners: make(map[netip.Addr]*policy.Pod), hosts: make(map[netip.Addr]bool), gone: make(map[string]end),
		joined: make(map[*workload]*workload), spaces: make(map[string]*space)}
	for i := range c.Pods {
		p := &c.Pods[i]
		r.pods[p.String()] = p
		for _, a := range p.IPs {
			switch rival := r.owners[a]; {
			case p.HostNetwork:
				r.hosts[a] = true
			case rival == nil || owns(p, rival, a):
				r.owners[a] = p
			}
		}
		if !p.HostNetwork {
			r.add(connectivity.WorkloadOf(p), p)
		}
	}
	return r
}

// owns says whether the first of two pods that claim an address owns it.
func owns(p, rival *policy.Pod, a netip.Addr) bool {
	both := policy.Cluster{Pods: []policy.Pod{*p, *rival}}
	return both.Owner(a) == &both.Pods[0]
}

// add adds a pod to a workload.
func (r *roster) add(name connectivity.Workload, p *policy.Pod) *workload {
	w := r.workloads[name]
	if w == nil {
		w = &workload{Workload: name}
		r.workloads[name] = w
	}
	w.pods = append(w.pods, p)
	return w
}

// join joins workloads with indistinguishable labels. After it, no pods can be added.
func (r *roster) join() {
	first := make(map[string]*workload)
	all := slices.SortedFunc(maps.Values(r.workloads), compareNames)
	slices.SortStableFunc(all, func(a, b *workload) int { return cmp.Compare(a.bare(), b.bare()) })
	for _, w := range all {
		key := w.Namespace + " " + w.sort()
		if one := first[key]; one != nil {
			one.also, one.pods = append(one.also, w.Workload), append(one.pods, w.pods...)
			for i, set := range w.sets {
				one.sets[i].pods += set.pods
			}
			r.joined[w] = one
			continue
		}
		first[key] = w
		in := r.spaces[w.Namespace]
		if in == nil {
			in = &space{labels: make(map[string][]*workload)}
			r.spaces[w.Namespace] = in
		}
		in.add(w)
	}
	for _, in := range r.spaces {
		slices.SortFunc(in.all, compareNames)
	}
}

func compareNames(a, b *workload) int {
	return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Kind, b.Kind))
}

// bare is 1 for pods without a controller, whose names say the least.
func (w *workload) bare() int {
	if w.Kind == "Pod" {
		return 1
	}
	return 0
}

// sort finds the label sets of a workload's pods, and returns a key that is equal for equal ones.
func (w *workload) sort() string {
	at := make(map[string]int)
	for _, p := range w.pods {
		set := make(labels.Set, len(p.Labels))
		for k, v := range p.Labels {
			switch {
			case !w.volatile(k, p):
				set[k] = v
			case slices.Contains(ofKind(), k):
				set[k] = ""
			}
		}
		key := textOf(set)
		i, known := at[key]
		if !known {
			i = len(w.sets)
			at[key], w.sets = i, append(w.sets, labelSet{labels: set})
		}
		w.sets[i].pods++
	}
	slices.SortFunc(w.sets, func(a, b labelSet) int { return cmp.Compare(textOf(a.labels), textOf(b.labels)) })
	return strings.Join(slices.Sorted(maps.Keys(at)), " ")
}

func textOf(set labels.Set) string {
	var text strings.Builder
	for _, k := range slices.Sorted(maps.Keys(set)) {
		text.WriteString(strconv.Quote(k) + strconv.Quote(set[k]))
	}
	return text.String()
}

// add adds a workload to its namespace.
func (s *space) add(w *workload) {
	s.all = append(s.all, w)
	for _, key := range identifying() {
		seen := make(map[string]bool)
		for _, set := range w.sets {
			if value, has := set.labels[key]; has && !seen[value] {
				seen[value] = true
				s.labels[key+"="+value] = append(s.labels[key+"="+value], w)
			}
		}
	}
}

// in returns the workloads of a namespace, sorted.
func (r *roster) in(namespace string) []*workload {
	if s := r.spaces[namespace]; s != nil {
		return s.all
	}
	return nil
}

// end resolves an end of a flow, or says why that is impossible.
func (r *roster) end(e flows.End) (end, string) {
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

// past returns the end for a pod that is gone.
func (r *roster) past(e flows.End) (end, string) {
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
