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

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// wideCluster is a node with an isolated pod in each of some namespaces, all allowed the same: half of the cluster's
// pods, by their labels, at a port.
func wideCluster(t *testing.T, port intstr.IntOrString) (s *translate.State, peer func(int) policy.Pod) {
	t.Helper()
	const namespaces, peers = 20, 4000
	s = translate.New(node, translate.Options{Limits: translate.DefaultLimits()})
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

// TestWideShared: a selector that matches many pods is one set, however many isolations let them in, by number and by
// the name of a port; when it matches few, each isolation has them again.
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
			trail, err := trace.Follow(s.Complete(), translate.PacketOf(f))
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
