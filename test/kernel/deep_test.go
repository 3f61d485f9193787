// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// TestDeepestWay has a packet pass as many chains as a way can have, those of egress and then those of ingress: the
// kernel takes 16.
func TestDeepestWay(t *testing.T) {
	blocks := 4000
	if testing.Short() {
		blocks = 400 // a kernel that walks all ways through the chains takes minutes for them: TestGraph
	}
	p := prober.New(t)
	conn := open(t)
	c := &policy.Cluster{Namespaces: map[string]map[string]string{"ns": nil}}
	ends := [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	for i, a := range ends {
		c.Pods = append(c.Pods, policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("pod-", i)}, Node: node,
			IPs: []netip.Addr{a}, Running: true,
		})
	}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "deep"}}
	np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	r := random.Source(1)
	for i := range blocks {
		port := intstr.FromInt32(int32(i + 1))
		ports := []networkingv1.NetworkPolicyPort{{Port: &port}}
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(256)), byte(r.IntN(256))}),
			8+r.IntN(25)).Masked()
		peers := []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: cidr.String()}}}
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{Ports: ports, From: peers})
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{Ports: ports, To: peers})
	}
	c.Policies = []*networkingv1.NetworkPolicy{np}
	s := translate.New(node, translate.Options{LogGroup: 86, Observe: 100}) // what counts denied ones is deepest
	if errs := s.Add(c); len(errs) > 0 {
		t.Fatal(errs)
	}
	if _, err := conn.Apply(t.Context(), s.Complete().Take()); err != nil {
		t.Fatal(err)
	}
	var flows []policy.Flow
	for port := 1; port < blocks; port += blocks / 300 {
		flows = append(flows, policy.Flow{Src: ends[0], Dst: ends[1], Proto: nft.TCP, DstPort: uint16(port)})
	}
	forwarded, err := send(p, flows)
	if err != nil {
		t.Fatal(err)
	}
	allowed := 0
	for i, f := range flows {
		trail, err := trace.Follow(s.Complete(), translate.PacketOf(f))
		steps, verdict := trail.Steps, trail.Verdict
		if want := c.Explain(f).Allowed; forwarded[i] != want || (verdict.Kind == nft.Accept) != want || err != nil {
			t.Errorf("%s: forwarded: %t; the policies allow it: %t; the rules: %v in %d steps, %v", f, forwarded[i],
				want, verdict, len(steps), err)
		}
		if forwarded[i] {
			allowed++
		}
	}
	if allowed == 0 || allowed == len(flows) {
		t.Errorf("%d of %d flows are allowed: nothing is tested", allowed, len(flows))
	}
}
