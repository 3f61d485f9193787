// SPDX-License-Identifier: Apache-2.0

package index_test

import (
	"fmt"
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/index"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// TestNewIdentityIsAskedForByFew: a new identity is matched only against selectors that require something it has,
// however many others its namespace and the cluster have.
func TestNewIdentityIsAskedForByFew(t *testing.T) {
	x := index.New("node", deaf{})
	looks := 0
	parsed := func(text string) labels.Selector {
		s, err := labels.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return looking{s, &looks}
	}
	pod := func(name, app string) policy.Pod {
		return policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "shop", Name: name},
			Labels:         map[string]string{"app": app, "tier": "front"},
			IPs:            []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(len(name))})},
		}
	}
	x.SetNamespace("shop", map[string]string{"team": "shop", "stage": "production"})
	x.SetPod(pod("first", "web"))
	var all []*selector
	for i := range 2000 {
		none := fmt.Sprintf("app=none-%d", i)
		all = append(all,
			x.Selector(spec.Peer{Namespace: "shop", Pods: parsed(none)}),
			x.Selector(spec.Peer{Namespace: "shop", Pods: parsed("tier=front,app in (web,other)," + none)}),
			x.Selector(spec.Peer{Namespaces: parsed("team=shop"), Pods: parsed(fmt.Sprintf("tier,key-%d", i))}),
			x.Selector(spec.Peer{Namespaces: parsed(fmt.Sprintf("stage,team=none-%d", i)), Pods: parsed("tier=front")}),
			x.Selector(spec.Peer{Namespaces: parsed(fmt.Sprintf("key-%d", i)), Pods: labels.Everything()}))
	}
	wanted := []*selector{
		x.Selector(spec.Peer{Namespace: "shop", Pods: parsed("app=new,tier")}),
		x.Selector(spec.Peer{Namespaces: parsed("team in (shop,other)"), Pods: labels.Everything()}),
		x.Selector(spec.Peer{Pods: parsed("app notin (web)")}),
	}
	looks = 0
	x.SetPod(pod("second", "new"))
	for _, sel := range wanted {
		if len(sel.Matches) == 0 {
			t.Errorf("%s matches nothing", sel.Key)
		}
	}
	if looks > 5 {
		t.Errorf("%d looks at labels for a new identity, want one or two for each selector that matches it", looks)
	}
	for _, sel := range append(all, wanted...) {
		x.DropSelector(sel)
	}
	if sizes := x.Sizes(); sizes["selectors"]+sizes["askers"]+sizes["matches"]+sizes["links"] != 0 {
		t.Errorf("something is left of selectors that are gone: %v", sizes)
	}
}
