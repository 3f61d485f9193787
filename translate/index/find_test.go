// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"slices"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/index"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// deaf is a user that keeps nothing.
type deaf struct{}

type (
	selector = index.Selector[struct{}, struct{}]
	identity = index.Identity[struct{}, struct{}]
	pod      = index.Pod[struct{}, struct{}]
)

func (deaf) Match(*selector, *identity)   {}
func (deaf) Unmatch(*selector, *identity) {}
func (deaf) Attach(netip.Addr, *pod)      {}
func (deaf) Detach(netip.Addr, *pod)      {}
func (deaf) Left(*identity)               {}

// looking is a selector that counts how often it looks at labels.
type looking struct {
	labels.Selector
	looks *int
}

func (l looking) Matches(set labels.Labels) bool {
	*l.looks++
	return l.Selector.Matches(set)
}

// TestSelectorLooksAtNoOthers: a new selector looks only at the labels of what it matches, whatever its form, even in a
// cluster where every pod is of its own kind.
func TestSelectorLooksAtNoOthers(t *testing.T) {
	x := index.New("node", deaf{})
	for i := range 40 {
		x.SetNamespace(fmt.Sprint("ns-", i), map[string]string{"team": fmt.Sprint(i % 4)})
	}
	for i := range 4000 {
		x.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: fmt.Sprint("ns-", i%40), Name: fmt.Sprint(i)},
			Labels:         map[string]string{"pod": fmt.Sprint(i), "app": fmt.Sprint("app-", i/400), "is": "pod"},
			IPs:            []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
		})
	}
	for text, want := range map[string]int{
		"app=none":                     0,
		"pod in (1, 3999, none)":       2,
		"none":                         0,
		"is=pod, is notin (pod, none)": 0,
		"!is":                          0,
		"is, pod, app=app-3, app notin (app-2, app-3)": 0,
		"app notin (none), pod in (7, 8)":              2,
		"app=app-3":                                    400,
	} {
		looks := 0
		pods, err := labels.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		sel := x.Selector(spec.Peer{Namespaces: labels.Everything(), Pods: looking{pods, &looks}})
		if len(sel.Matches) != want || looks > want {
			t.Errorf("%s: matches %d after %d looks, want %d", text, len(sel.Matches), looks, want)
		}
	}
	looks := 0
	team, _ := labels.Parse("team=none")
	x.Selector(spec.Peer{Namespaces: looking{team, &looks}, Pods: labels.Everything()})
	if looks > 0 {
		t.Errorf("%d looks at namespaces that it does not match", looks)
	}
}

// many returns n labels.
func many(n int) map[string]string {
	set := make(map[string]string)
	for i := range n {
		set[fmt.Sprint("key-", i)] = fmt.Sprint(i)
	}
	return set
}

// TestManyLabels: a pod with a hundred thousand labels takes little more memory than their text, and keeps its labels.
func TestManyLabels(t *testing.T) {
	x := index.New("node", deaf{})
	pod := policy.Pod{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "pod"}, Labels: many(1000),
		IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	x.SetPod(pod)
	if terms := x.Sizes()["terms"]; terms > 0 {
		t.Errorf("a pod with %d labels has %d terms", len(pod.Labels), terms)
	}
	id := x.Pod(pod.NamespacedName).Identity
	if !maps.Equal(id.Labels(), many(1000)) || id.Get("key-999") != "999" || id.Has("key-1000") {
		t.Errorf("the pod has other labels than it was given: %v", id.Labels())
	}
	pod.Labels = many(1000)
	x.SetPod(pod)
	if x.Pod(pod.NamespacedName).Identity != id {
		t.Error("equal labels make another identity")
	}
	x.DeletePod(pod.NamespacedName)
	if sizes := x.Sizes(); sizes["crowded"] > 0 {
		t.Errorf("labels are left: %v", sizes)
	}
}

// TestSelectorsMatch: in a randomly changing cluster, selectors match what they should, new or old.
func TestSelectorsMatch(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 1))
		x := index.New("node", deaf{})
		var kept []*selector
		for step := range 1500 {
			change(r, x)
			if step%10 == 0 {
				kept = append(kept, x.Selector(anyPeer(r)))
			}
			if step%100 != 0 {
				continue
			}
			for _, ns := range x.Namespaces() {
				for _, id := range ns.Identities {
					if _, inhabited := x.Inhabited()[id]; inhabited != (len(id.Local) > 0) {
						t.Fatalf("seed %d, step %d: %v of %s: inhabited %v", seed, step, id.Labels(), ns.Name,
							inhabited)
					}
				}
			}
			for _, sel := range kept {
				if wrong := mistaken(x, sel); wrong != "" {
					t.Fatalf("seed %d, step %d: %s: %s", seed, step, sel.Key, wrong)
				}
			}
		}
	}
}

// TestNothingIsLeft: an index from which everything was deleted remembers nothing.
func TestNothingIsLeft(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 2))
		x := index.New("node", deaf{})
		for range 1500 {
			change(r, x)
			name := types.NamespacedName{Namespace: fmt.Sprint("ns-", r.IntN(4)), Name: fmt.Sprint(r.IntN(400))}
			switch r.IntN(10) {
			case 0:
				x.Selector(anyPeer(r))
			case 1:
				x.SetSandbox(policy.Sandbox{ID: fmt.Sprint(r.IntN(50)), NamespacedName: name, Node: "node",
					IPs:    []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(256))})},
					Serial: r.Uint64N(9) + 1, Stale: r.IntN(3) == 0})
			case 2:
				x.DeleteSandbox(fmt.Sprint(r.IntN(50)))
			}
		}
		for _, b := range x.Sandboxes() {
			x.DeleteSandbox(b.ID)
		}
		for _, name := range slices.Collect(x.PodNames()) {
			x.DeletePod(name)
		}
		for _, name := range slices.Collect(x.NamespaceNames()) {
			x.DeleteNamespace(name.Name)
		}
		for _, sel := range slices.Collect(maps.Values(x.Selectors())) {
			x.DropSelector(sel)
		}
		for what, n := range x.Sizes() {
			if n != 0 {
				t.Errorf("seed %d: %s: %d are left", seed, what, n)
			}
		}
	}
}

// TestRelabelledNamespaceAsksFew: new labels of a namespace are matched only against selectors that depend on what
// changed.
func TestRelabelledNamespaceAsksFew(t *testing.T) {
	x := index.New("node", deaf{})
	x.SetNamespace("shop", map[string]string{"team": "shop", "stage": "production"})
	x.SetPod(policy.Pod{NamespacedName: types.NamespacedName{Namespace: "shop", Name: "pod"},
		IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
	looks := 0
	space := func(text string) *selector {
		sel, err := labels.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return x.Selector(spec.Peer{Namespaces: looking{sel, &looks}, Pods: labels.Everything()})
	}
	for i := range 100 {
		space(fmt.Sprint("team notin (other), stage!=stage-", i))
	}
	hit, miss, empty := space("zone"), space("!zone"), space("zone!=,!zone")
	looks = 0
	x.SetNamespace("shop", map[string]string{"team": "shop", "stage": "production", "zone": ""})
	if len(hit.Matches) != 1 || len(miss.Matches) != 0 || len(empty.Matches) != 0 {
		t.Errorf("after the label came: %d, %d, %d matches", len(hit.Matches), len(miss.Matches), len(empty.Matches))
	}
	if looks > 20 {
		t.Errorf("%d looks at a namespace's labels, for 3 selectors that ask for the new one", looks)
	}
	x.DeleteNamespace("shop")
	for _, sel := range x.Selectors() {
		if len(sel.Matches) > 0 {
			t.Errorf("%s matches in a namespace that is gone", sel.Key)
		}
	}
}

// change sets or deletes a pod or a namespace. Setting more than deleting makes large sets, and the reverse empties
// them again.
func change(r *rand.Rand, x *index.Index[struct{}, struct{}]) {
	name := types.NamespacedName{Namespace: fmt.Sprint("ns-", r.IntN(4)), Name: fmt.Sprint(r.IntN(400))}
	some := func() map[string]string {
		set := make(map[string]string)
		for _, key := range []string{"app", "tier", "is"}[:r.IntN(4)] {
			set[key] = []string{"a", "b", ""}[r.IntN(3)]
		}
		if r.IntN(10) == 0 {
			maps.Copy(set, many(150))
		}
		return set
	}
	switch n := r.IntN(20); {
	case n == 0:
		x.SetNamespace(name.Namespace, some())
	case n == 1:
		x.DeleteNamespace(name.Namespace)
	case n < 8:
		x.DeletePod(name)
	default:
		p := policy.Pod{NamespacedName: name, Labels: some(), HostNetwork: r.IntN(9) == 0}
		p.Labels["pod"], p.Node = name.Name, []string{"node", "other"}[r.IntN(2)]
		p.IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(256))})}
		x.SetPod(p)
	}
}

// anyPeer returns a peer of any kind.
func anyPeer(r *rand.Rand) spec.Peer {
	some := func() labels.Selector {
		var sel metav1.LabelSelector
		for range r.IntN(4) {
			e := metav1.LabelSelectorRequirement{Key: []string{"app", "tier", "is", "no"}[r.IntN(4)]}
			switch e.Operator = metav1.LabelSelectorOpExists; r.IntN(4) {
			case 0:
				e.Operator = metav1.LabelSelectorOpDoesNotExist
			case 1:
				e.Operator, e.Values = metav1.LabelSelectorOpIn, []string{"a", "", "c"}[:1+r.IntN(3)]
			case 2:
				e.Operator, e.Values = metav1.LabelSelectorOpNotIn, []string{"b", "", "c"}[:1+r.IntN(3)]
			}
			if len(e.Values) > 0 && r.IntN(4) == 0 {
				e.Values = slices.AppendSeq(slices.Clone(e.Values), maps.Keys(many(200)))
			}
			sel.MatchExpressions = append(sel.MatchExpressions, e)
		}
		np := &networkingv1.NetworkPolicy{Spec: networkingv1.NetworkPolicySpec{PodSelector: sel}}
		p, err := spec.Compile(np)
		if err != nil {
			panic(err)
		}
		return p.Pods
	}
	switch p := (spec.Peer{Pods: some()}); r.IntN(3) {
	case 0:
		p.Namespace = fmt.Sprint("ns-", r.IntN(4))
		return p
	case 1:
		p.Namespaces = some()
		return p
	default:
		return p
	}
}

// mistaken says which identity a selector matches, or does not, against what it says.
func mistaken(x *index.Index[struct{}, struct{}], sel *selector) string {
	for name, ns := range x.Namespaces() {
		for _, id := range ns.Identities {
			if _, matches := sel.Matches[id]; matches != id.In(sel.Peer) {
				return fmt.Sprintf("%v of %s: %v", id.Labels(), name, matches)
			}
		}
	}
	return ""
}

// TestSelectorOfManyValues: a selector that lists 100,000 values takes nothing for each of them, and finds pods that
// come later.
func TestSelectorOfManyValues(t *testing.T) {
	const n, most = 100_000, 1 << 20
	r := metav1.LabelSelectorRequirement{Key: "app", Operator: metav1.LabelSelectorOpIn}
	for i := range n {
		r.Values = append(r.Values, fmt.Sprint(i))
	}
	pods, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{
		MatchExpressions: []metav1.LabelSelectorRequirement{r}})
	if err != nil {
		t.Fatal(err)
	}
	peer := spec.Peer{Namespaces: labels.Everything(), Pods: pods}
	key := peer.String() // of which the index keeps one
	x := index.New("node", deaf{})
	x.SetNamespace("ns", nil)
	used := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := used()
	sel := x.Selector(peer)
	if took := int(used()) - int(before); took > most+len(key) {
		t.Errorf("the selector takes %d bytes more than its text", took)
	}
	x.SetPod(policy.Pod{NamespacedName: types.NamespacedName{Namespace: "ns", Name: "pod"},
		Labels: map[string]string{"app": "7"}, IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
	if len(sel.Matches) != 1 {
		t.Errorf("the selector matches %d pods", len(sel.Matches))
	}
	runtime.KeepAlive(key)
}
