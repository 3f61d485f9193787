// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/aside"
	"github.com/netpold/netpold/translate/policy"
)

// denyAll is a ClusterNetworkPolicy of a tier that denies everything between pods in a direction.
func denyAll(t *testing.T, tier string, d policy.Direction) policy.ClusterPolicy {
	t.Helper()
	peers := map[policy.Direction]string{policy.Egress: "to", policy.Ingress: "from"}[d]
	p, err := policy.ReadClusterPolicy([]byte(`{"metadata": {"name": "deny"}, "spec": {"tier": "` + tier +
		`", "priority": 1, "subject": {"namespaces": {}}, "` + d.String() + `": [{"action": "Deny", "` + peers +
		`": [{"namespaces": {}}]}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestToItself: NetworkPolicies do not block what a pod sends to itself. A ClusterNetworkPolicy blocks what comes back
// through a Service, masqueraded or not, but not what a pod sends to its own address. If an address is set aside, what
// comes through a Service is denied.
func TestToItself(t *testing.T) {
	web := policy.Pod{NamespacedName: types.NamespacedName{Namespace: "shop", Name: "web"}, Node: node, Running: true,
		IPs: []netip.Addr{netip.MustParseAddr("10.0.1.1"), netip.MustParseAddr("fd00:1::1")}}
	none := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "none"}}
	none.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	services := []netip.Addr{netip.MustParseAddr("192.0.2.99"), netip.MustParseAddr("2001:db8::99")}

	p := prober.New(t)
	netns.NFT(t, `table inet nat {
		chain to { type nat hook prerouting priority dstnat; policy accept;
			ip daddr 192.0.2.99 tcp dport 80 dnat ip to 10.0.1.1:8080
			ip6 daddr 2001:db8::99 tcp dport 80 dnat ip6 to [fd00:1::1]:8080; }
		chain from { type nat hook postrouting priority srcnat; policy accept; tcp sport 41000 masquerade; }; }`,
		"-f", "-")
	conn := open(t)
	for _, aim := range []struct {
		tier    string // whose policy denies, or ""
		refuses bool   // the kernel refuses the address
		passes  bool   // through a Service
	}{{"", false, true}, {"", true, false}, {"Admin", false, false}, {"Admin", true, false},
		{"Baseline", false, false}, {"Baseline", true, false}} {
		for _, d := range policy.Directions() {
			s := translate.New(node, translate.Options{LogGroup: 86})
			s.SetNamespace("shop", nil)
			s.SetPod(web)
			if aim.tier != "" {
				s.SetClusterPolicy(denyAll(t, aim.tier, d))
			}
			if aim.tier != "Baseline" {
				if err := s.SetPolicy(none); err != nil {
					t.Fatal(err)
				}
			}
			s.Complete()
			for _, a := range web.IPs {
				if aim.refuses {
					s.Quarantine(aside.Quarantine{Key: aside.AddressKey(d, a), Reason: "a test"})
				}
			}
			if _, err := conn.Apply(t.Context(), s.Complete().Take()); err != nil {
				t.Fatalf("%+v %s: %v", aim, d, err)
			}
			for i, a := range web.IPs {
				for _, port := range []uint16{40000, 41000} { // not masqueraded, masqueraded
					got := hairpin(t, p, netip.AddrPortFrom(a, port), netip.AddrPortFrom(services[i], 80))
					if got != aim.passes {
						t.Errorf("%+v %s: %s to itself through a Service from port %d passes: %t", aim, d, a, port, got)
					}
				}
				f := policy.Flow{Src: a, Dst: a, Proto: nft.TCP, DstPort: 8080}
				got, err := send(p, []policy.Flow{f})
				if err != nil || got[0] != s.Excerpt(f).Explain(f).Allowed || !aim.refuses && !got[0] {
					t.Errorf("%+v %s: %s to its own address passes: %t, %v", aim, d, a, got, err)
				}
				f.Service = true
				if got := s.Excerpt(f).Explain(f).Allowed; got != aim.passes {
					t.Errorf("%+v %s: the policies allow %s to itself through a Service: %t", aim, d, a, got)
				}
			}
		}
	}
}

// hairpin says whether a connection that a pod opens to a Service comes back to it.
func hairpin(t *testing.T, p *prober.Prober, from, service netip.AddrPort) bool {
	t.Helper()
	if err := p.Forget(); err != nil {
		t.Fatal(err)
	}
	out, err := p.Send(prober.TCP(from, service, prober.Segment{Flags: prober.SYN}))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range out {
		if _, to := addresses(b); to == from.Addr() {
			return true
		}
	}
	return false
}
