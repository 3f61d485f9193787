// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"net/netip"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// rival is a pod that claims the address of all rivals; the bits of kind say how.
func rival(name string, kind int) policy.Pod {
	return policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: "ns", Name: name},
		Node:           random.Nodes()[kind>>3&1],
		IPs:            []netip.Addr{netip.MustParseAddr("10.0.0.1")},
		Terminating:    kind&1 != 0,
		Created:        time.Unix(1_700_000_000+int64(kind>>1&1), 0).UTC(),
		Running:        kind>>2&1 != 0,
	}
}

// TestOwner: of three pods of any kind that claim an address, the state has the same owner as the policies' own answer,
// whatever the order of events, and also when the owner goes, or one changes.
func TestOwner(t *testing.T) {
	const kinds = 16
	orders := [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}}
	for i := range kinds * kinds * kinds {
		pods := []policy.Pod{rival("a", i%kinds), rival("b", i/kinds%kinds), rival("c", i/kinds/kinds)}
		before := rival("b", (i+5)%kinds) // what b was
		for _, order := range orders {
			s := translate.New(random.Nodes()[0], translate.Options{})
			s.SetPod(before)
			for _, n := range order {
				s.SetPod(pods[n])
			}
			c := &policy.Cluster{Pods: pods}
			for len(c.Pods) > 0 {
				owner := ownerIn(c)
				if got, _ := s.PodAt(pods[0].IPs[0]); got.String() != owner.String() {
					t.Fatalf("%+v in order %v: %s has the address, want %s", c.Pods, order, got, owner)
				}
				gone := random.Event{Kind: random.PodKind, Name: owner, Delete: true}
				gone.Apply(s)
				gone.ApplyTo(c)
			}
			if got, ok := s.PodAt(pods[0].IPs[0]); ok {
				t.Fatalf("%s has the address of nobody", got)
			}
		}
	}
}

// ownerIn returns the owner of the rivals' address according to the policies' own answer.
func ownerIn(c *policy.Cluster) types.NamespacedName {
	a := c.Pods[0].IPs[0]
	return c.Explain(policy.Flow{Src: a, Dst: a}).Ingress.Pod.NamespacedName
}

// TestOwnerOrder: the newest pod that is not terminating has the address, on whatever node.
func TestOwnerOrder(t *testing.T) {
	const terminating, newer, running, other = 1, 2, 4, 8
	best := []int{
		newer | running, newer, running, 0,
		terminating | newer | running, terminating | newer, terminating | running, terminating,
	}
	for i, first := range best {
		for _, second := range best[i+1:] {
			for node := range 4 {
				c := &policy.Cluster{Pods: []policy.Pod{rival("a", second|other*(node&1)),
					rival("b", first|other*(node>>1))}}
				if got := ownerIn(c).Name; got != "b" {
					t.Errorf("%04b has the address, want %04b", second, first)
				}
			}
		}
	}
}

// TestOwnerStays: a pod that begins to run, or to terminate, without a rival keeps what it has, and touches nothing.
func TestOwnerStays(t *testing.T) {
	for _, node := range random.Nodes() {
		s := translate.New(random.Nodes()[0], translate.Options{})
		p := rival("a", 0)
		p.Node = node
		s.SetPod(p)
		pods := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}}
		fromPods := networkingv1.NetworkPolicyIngressRule{From: []networkingv1.NetworkPolicyPeer{pods}}
		np := &networkingv1.NetworkPolicy{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p"},
			Spec:       networkingv1.NetworkPolicySpec{Ingress: []networkingv1.NetworkPolicyIngressRule{fromPods}},
		}
		if err := s.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
		s.Complete().Take()
		for _, change := range []func(){func() { p.Running = true }, func() { p.Terminating = true }} {
			change()
			s.SetPod(p)
			if s.Changed() {
				t.Errorf("%+v changes the table", p)
			}
			if got, _ := s.PodAt(p.IPs[0]); got.Running != p.Running || got.Terminating != p.Terminating {
				t.Errorf("%+v has the address, want %+v", got, p)
			}
		}
		if s.SetNamespace("ns", map[string]string{"a": "b"}); s.Complete().Take() != nil {
			t.Error("the table is another")
		}
		want := translate.New(random.Nodes()[0], translate.Options{})
		want.Add(s.Cluster())
		if got := s.Complete().String(); got != want.Complete().String() {
			t.Error(diff(want.Complete().String(), got))
		}
	}
}
