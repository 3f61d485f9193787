// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/tier"
)

// wideCluster is a node with an isolated pod in each of several namespaces, which all allow the same: half of the
// cluster's pods, by their labels, on a port.
func wideCluster(t *testing.T, port intstr.IntOrString) (s *translate.State, peer func(int) policy.Pod) {
	t.Helper()
	const namespaces, peers = 20, 4000
	s = translate.New(node, translate.Options{Limits: content.DefaultLimits()})
	peer = func(i int) policy.Pod {
		name := types.NamespacedName{Namespace: fmt.Sprint("ns-", i%namespaces), Name: fmt.Sprint("peer-", i)}
		return policy.Pod{
			NamespacedName: name, Node: "other", Running: true, Labels: map[string]string{"half": fmt.Sprint(i % 2)},
			IPs:   []netip.Addr{netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})},
			Ports: []policy.NamedPort{{Name: "http", Proto: nft.TCP, Number: 8080}},
		}
	}
	for i := range namespaces {
		s.SetNamespace(fmt.Sprint("ns-", i), map[string]string{})
		p := peer(i)
		p.Node, p.Name, p.Labels = node, "pod", map[string]string{"isolated": "true"}
		p.IPs = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}
		s.SetPod(p)
	}
	for i := range peers {
		s.SetPod(peer(i))
	}
	for i := range namespaces {
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprint("ns-", i), Name: "p"}}
		np.Spec.PodSelector.MatchLabels = map[string]string{"isolated": "true"}
		np.Spec.PolicyTypes = []networkingv1.PolicyType{"Egress"}
		np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{
			To: []networkingv1.NetworkPolicyPeer{{NamespaceSelector: &metav1.LabelSelector{},
				PodSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"half": "1"}}}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: &port}},
		}}
		if err := s.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
	}
	return s, peer
}

// TestWideShared: a selector that matches many pods is one set, however many isolations allow them, on numbered and
// named ports; when it matches few, each isolation has its own elements again.
func TestWideShared(t *testing.T) {
	for _, port := range []intstr.IntOrString{intstr.FromInt32(8080), intstr.FromString("http")} {
		s, peer := wideCluster(t, port)
		elements := func() (n int) {
			for _, set := range s.Complete().Sets() {
				n += set.Len()
			}
			return n
		}
		passes := func(to netip.Addr, port uint16) bool {
			f := policy.Flow{Src: netip.AddrFrom4([4]byte{10, 0, 0, 3}), Dst: to, Proto: nft.TCP, DstPort: port}
			trail, err := trace.Follow(s.Complete(), frame.PacketOf(f))
			if err != nil {
				t.Fatal(err)
			}
			return trail.Verdict.Kind == nft.Accept
		}
		check := func(when string, most int) {
			t.Helper()
			if n := elements(); n > most {
				t.Errorf("port %s, %s: %d elements, want %d at most", port.String(), when, n, most)
			}
			if to := peer(1).IPs[0]; !passes(to, 8080) || passes(to, 8081) || passes(peer(2).IPs[0], 8080) {
				t.Errorf("port %s, %s: wrong verdicts", port.String(), when)
			}
		}
		check("wide", 2000+200)
		for i := 2000; i < 4000; i++ {
			s.DeletePod(peer(i).NamespacedName)
		}
		check("not wide any more", 20*1000+200)
		for _, set := range s.Complete().Sets() {
			if strings.HasPrefix(set.Name, "named-") {
				t.Errorf("%s is still there", set.Name)
			}
		}
		for i := 2000; i < 4000; i++ {
			s.SetPod(peer(i))
		}
		check("wide again", 2000+200)
	}
}

// TestWideLists: peers that match many pods are in sets that lists share, not in a map of each list, however they
// overlap; what is copied all the same is bounded.
func TestWideLists(t *testing.T) {
	const lists, peers, most = 20, 4000, 3000
	bounds := tier.DefaultBounds()
	bounds.Pods = most
	s := translate.New(node, translate.Options{TierBounds: bounds})
	s.SetNamespace("ns", map[string]string{})
	address := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}) }
	peer := func(i int) policy.Pod {
		p := policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("peer-", i)}, Node: "other",
			Running: true, IPs: []netip.Addr{address(i)}, Labels: map[string]string{},
		}
		for bit := range 6 {
			p.Labels[fmt.Sprint("bit-", bit)] = fmt.Sprint(i >> bit & 1)
		}
		return p
	}
	for i := range peers {
		s.SetPod(peer(i))
	}
	set := func(bits int) {
		for i := range lists {
			s.SetPod(policy.Pod{
				NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("pod-", i)}, Node: node,
				Running: true, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})},
				Labels: map[string]string{"list": fmt.Sprint(i)},
			})
			p := policy.ClusterPolicy{ClusterNetworkPolicy: &v1alpha2.ClusterNetworkPolicy{}}
			p.Name, p.Spec.Tier = fmt.Sprint("p-", i), v1alpha2.AdminTier
			p.Spec.Subject.Pods = &v1alpha2.NamespacedPod{PodSelector: metav1.LabelSelector{
				MatchLabels: map[string]string{"list": fmt.Sprint(i)}}}
			for bit := range bits { // the last one that matches is asked first
				of := metav1.LabelSelector{MatchLabels: map[string]string{fmt.Sprint("bit-", bits-1-bit): "1"}}
				p.Spec.Egress = append(p.Spec.Egress, v1alpha2.ClusterNetworkPolicyEgressRule{
					Action: []v1alpha2.ClusterNetworkPolicyRuleAction{"Accept", "Deny"}[bit%2],
					To:     []v1alpha2.ClusterNetworkPolicyEgressPeer{{Pods: &v1alpha2.NamespacedPod{PodSelector: of}}},
				})
			}
			s.SetClusterPolicy(p)
		}
	}
	check := func(bits, peers, most, sequential int) {
		t.Helper()
		n := 0
		for _, set := range s.Complete().Sets() {
			n += set.Len()
		}
		if n > most || len(s.Sequential()) != sequential {
			t.Errorf("%d selectors: %d elements, %d at most; %d lists sequential", bits, n, most, len(s.Sequential()))
		}
		t.Logf("%d selectors, %d peers: %d elements", bits, peers, n)
		for i := range 1 << bits {
			f := policy.Flow{Src: netip.AddrFrom4([4]byte{10, 0, 0, 3}), Dst: address(i), Proto: nft.TCP, DstPort: 80}
			trail, err := trace.Follow(s.Complete(), frame.PacketOf(f))
			if want := s.Excerpt(f).Explain(f).Allowed; err != nil || (trail.Verdict.Kind == nft.Accept) != want {
				t.Errorf("%d selectors, pod %d: %s (%v), want allowed: %t", bits, i, trail.Verdict, err, want)
			}
		}
	}
	for _, bits := range []int{1, 2, 4} {
		set(bits)
		check(bits, peers, bits*peers/2+200, 0)
	}
	set(6) // two of which are copied, and match three of four
	check(6, peers, lists*peers*3/4+4*peers/2+200, 0)
	for i := range 2000 {
		s.SetPod(peer(peers + i))
	}
	check(6, peers+2000, 6*(peers+2000)/2+200, lists)
	for i := 1000; i < peers+2000; i++ {
		s.DeletePod(peer(i).NamespacedName)
	}
	check(6, 1000, lists*1000+200, 0)
}
