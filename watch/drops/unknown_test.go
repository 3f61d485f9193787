// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"net/netip"
	"testing"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/logged"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/guard"
	"github.com/netpold/netpold/translate/policy"
)

// TestUnknownPod: what the guard dropped is reported as such, with what is known by then.
func TestUnknownPod(t *testing.T) {
	state := translate.New("node", translate.Options{
		Guard: guard.Options{UnknownPods: guard.Deny, Ranges: []netip.Prefix{netip.MustParsePrefix("10.244.1.0/24")}},
	})
	var lines logged.Lines
	log := New(Config{Log: lines.Log(), Told: func(Record) {}, View: func(look func(*translate.State)) bool {
		look(state)
		return true
	}})
	a, b := netip.MustParseAddr("10.244.1.9"), netip.MustParseAddr("8.8.8.8")
	want := func(prefix string, src, dst netip.Addr, text string) {
		t.Helper()
		r, ok := log.resolve(Packet{Prefix: prefix, SrcPort: 999, Opens: true,
			Flow: policy.Flow{Src: src, Dst: dst, Proto: nft.TCP, DstPort: 443}})
		if !ok || r.Text != text {
			t.Errorf("%s: %t, %q, want %q", prefix, ok, r.Text, text)
		}
	}
	want("unknown-pod-egress", a, b, "TCP connection from 10.244.1.9:999 to 8.8.8.8:443: "+
		"unknown pod 10.244.1.9 blocked: "+
		"no pod of this node is known to have that address (yet)")
	want("unknown-pod-ingress", b, a, "TCP connection from 8.8.8.8:999 to 10.244.1.9:443: "+
		"unknown pod 10.244.1.9 blocked: "+
		"no pod of this node is known to have that address (yet)")
	state.SetPod(policy.Pod{NamespacedName: types.NamespacedName{Namespace: "shop", Name: "web"}, Node: "node",
		IPs: []netip.Addr{a}})
	want("unknown-pod-egress", a, b, "TCP connection from shop/web (10.244.1.9:999) to 8.8.8.8:443: "+
		"unknown pod 10.244.1.9 was blocked: shop/web is known to have that address now")
}
