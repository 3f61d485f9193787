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
	"github.com/netpold/netpold/test/harness/cases"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// deepCase is a case of TestDeepestWay.
type deepCase struct {
	mode   string
	blocks int
}

// TestDeepestWay sends a packet through the longest possible way: the kernel allows 16 chains from a base chain on.
// Tier Baseline comes after audited policies.
func TestDeepestWay(t *testing.T) {
	blocks := 4000
	if testing.Short() {
		blocks = 400 // takes minutes on a kernel that walks every path through the chains: TestGraph
	}
	for _, of := range []deepCase{{policy.Enforce, blocks}, {policy.Audit, blocks}} {
		t.Run(of.mode, func(t *testing.T) {
			p := prober.New(t)
			conn := open(t)
			c, ends := of.cluster(t)
			// counting denied packets is deepest
			s := translate.New(node, translate.Options{LogGroup: 86, Observe: 100})
			if errs := s.Add(c); len(errs) > 0 {
				t.Fatal(errs)
			}
			apply(t, conn, s)
			var flows []policy.Flow
			for port := 1; port < of.blocks+1; port += 1 + of.blocks/300 {
				flows = append(flows, policy.Flow{Src: ends[0], Dst: ends[1], Proto: nft.TCP, DstPort: uint16(port)})
			}
			forwarded, err := send(p, flows)
			if err != nil {
				t.Fatal(err)
			}
			of.check(t, deepAnswers{c, s.Complete(), flows, forwarded, wouldDeny(t, conn)})
		})
	}
}

// deepAnswers is the kernel's verdicts on flows, and what they must agree with.
type deepAnswers struct {
	cluster   *policy.Cluster
	table     *nft.Table
	flows     []policy.Flow
	forwarded []bool
	counted   uint64 // that audited policies would deny
}

// check compares the kernel's answers with the rules and the policies.
func (of deepCase) check(t *testing.T, a deepAnswers) {
	t.Helper()
	allowed, would := 0, [2]int{}
	for i, f := range a.flows {
		trail, err := trace.Follow(a.table, frame.PacketOf(f))
		explained := a.cluster.Explain(f)
		want, verdict := explained.Allowed, trail.Verdict
		if a.forwarded[i] != want || (verdict.Kind == nft.Accept) != want || err != nil {
			t.Errorf("%s: forwarded: %t; allowed by the policies: %t; by the rules: %v in %d steps, %v", f,
				a.forwarded[i], want, verdict, len(trail.Steps), err)
		}
		audits := [2]bool{policy.Egress: explained.Egress.WouldDeny(),
			policy.Ingress: explained.Egress.Allowed && explained.Ingress.WouldDeny()}
		if got := cases.WouldDeny(trail); got != audits {
			t.Errorf("%s: audited policies would deny it, by direction: %v; by the rules: %v", f, audits, got)
		}
		for d, denied := range audits {
			if denied {
				would[d]++
			}
		}
		if want {
			allowed++
		}
	}
	t.Logf("%d of %d flows are allowed; audited policies would deny %v, by direction", allowed, len(a.flows), would)
	if sum := would[0] + would[1]; a.counted != uint64(sum) {
		t.Errorf("the kernel counts %d packets that audited policies would deny, want %d", a.counted, sum)
	}
	audited := would[policy.Egress] > 0 && would[policy.Ingress] > 0
	if allowed == 0 || allowed == len(a.flows) || audited != (of.mode == policy.Audit) {
		t.Errorf("%d of %d flows are allowed, %v would be denied: some cases are not tested", allowed, len(a.flows),
			would)
	}
}

// cluster returns two pods that one policy isolates, or only audits, in both directions, with random blocks, and
// ClusterNetworkPolicies that leave most to it.
func (of deepCase) cluster(t *testing.T) (c *policy.Cluster, ends [2]netip.Addr) {
	t.Helper()
	c = &policy.Cluster{Namespaces: map[string]map[string]string{"ns": nil}}
	ends = [2]netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")}
	for i, a := range ends {
		c.Pods = append(c.Pods, policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprint("pod-", i)}, Node: node,
			IPs: []netip.Addr{a}, Running: true,
		})
	}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "deep",
		Annotations: map[string]string{policy.ModeAnnotation: of.mode}}}
	np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	r := random.Source(1)
	for i := range of.blocks {
		port := intstr.FromInt32(int32(i + 1))
		ports := []networkingv1.NetworkPolicyPort{{Port: &port}}
		cidr := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(2)), byte(r.IntN(256)), byte(r.IntN(256))}),
			8+r.IntN(25)).Masked()
		peers := []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: cidr.String()}}}
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{Ports: ports, From: peers})
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{Ports: ports, To: peers})
	}
	c.Policies = []*networkingv1.NetworkPolicy{np}
	for tier, action := range map[string]string{"Admin": "Pass", "Baseline": "Deny"} {
		p, err := policy.ReadClusterPolicy(fmt.Appendf(nil, `{"apiVersion": "policy.networking.k8s.io/v1alpha2",
			"kind": "ClusterNetworkPolicy", "metadata": {"name": "of-%[1]s"}, "spec": {"tier": "%[1]s", "priority": 1,
			"subject": {"namespaces": {}}, "egress": [
			{"action": "%[2]s", "to": [{"networks": ["10.0.0.0/30"]}],
				"protocols": [{"tcp": {"destinationPort": {"range": {"start": 1, "end": 5}}}}]},
			{"action": "%[2]s", "to": [{"networks": ["10.0.0.0/24"]}, {"namespaces": {}}],
				"protocols": [{"tcp": {"destinationPort": {"number": 8}}}]}], "ingress": [
			{"action": "%[2]s", "from": [{"namespaces": {}}],
				"protocols": [{"tcp": {"destinationPort": {"range": {"start": 10, "end": 19}}}}]}]}}`, tier, action))
		if err != nil {
			t.Fatal(err)
		}
		c.ClusterPolicies = append(c.ClusterPolicies, p)
	}
	return c, ends
}
