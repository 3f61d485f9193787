// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// crossing returns a policy of the largest size that the API accepts, in which each address is in the networks of about
// three rules, in every combination, and each rule has its own ports.
func crossing(n int) policy.ClusterPolicy {
	p := policy.ClusterPolicy{ClusterNetworkPolicy: &v1alpha2.ClusterNetworkPolicy{}}
	p.Name, p.Spec.Tier, p.Spec.Priority = fmt.Sprintf("crossing-%d", n), v1alpha2.AdminTier, int32(n)
	p.Spec.Subject.Namespaces = &metav1.LabelSelector{}
	for i := range 25 {
		r := v1alpha2.ClusterNetworkPolicyEgressRule{Action: v1alpha2.ClusterNetworkPolicyRuleActionAccept}
		for j := range 25 {
			port := &v1alpha2.Port{Number: int32(1 + 2*((n*25+i)*25+j))}
			r.Protocols = append(r.Protocols, v1alpha2.ClusterNetworkPolicyProtocol{
				TCP: &v1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: port},
			})
			networks := []v1alpha2.CIDR{"172.0.0.0/8"}
			for k := 1; k < 25; k++ {
				at := (n*15_625 + (j*25+k)*(2*i+1)) % 8192
				networks = append(networks, v1alpha2.CIDR(fmt.Sprintf("172.16.%d.%d/32", at>>8, at&255)))
			}
			if i%2 == 1 {
				networks = networks[1:]
			}
			r.To = append(r.To, v1alpha2.ClusterNetworkPolicyEgressPeer{Networks: networks})
		}
		p.Spec.Egress = append(p.Spec.Egress, r)
	}
	return p
}

// TestTierLimit: if the networks and ports of policies, each legal by itself, would multiply, the rules are checked one
// after the other instead. If there are too many rules for that, the pods are denied everything in the tier, which is
// reported, until one of the policies goes.
func TestTierLimit(t *testing.T) {
	s := translate.New("n", translate.Options{Limits: content.DefaultLimits()})
	s.SetNamespace("ns", map[string]string{})
	pod := netip.MustParseAddr("10.0.0.1")
	s.SetPod(policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: "ns", Name: "p"}, Node: "n", IPs: []netip.Addr{pod},
		Running: true,
	})
	elements := func() (n int) {
		for _, set := range s.Complete().Sets() {
			n += set.Len()
		}
		return n
	}
	allowed := func(to string) bool {
		f := policy.Flow{Src: pod, Dst: netip.MustParseAddr(to), Proto: nft.TCP, DstPort: 1}
		trail, err := trace.Follow(s.Complete(), frame.PacketOf(f))
		if err != nil {
			t.Fatal(err)
		}
		return trail.Verdict.Kind == nft.Accept
	}
	told := func() (all []string) {
		for trouble := range s.Troubles() {
			all = append(all, trouble.Kind.String()+" "+trouble.Reason)
		}
		return all
	}
	s.SetClusterPolicy(crossing(0))
	one := elements()
	t.Logf("one policy: %d elements", one)
	if !allowed("172.16.0.1") || len(told()) > 0 {
		t.Errorf("one policy is too much: %q", told())
	}
	for n := 1; n < 10; n++ {
		s.SetClusterPolicy(crossing(n))
	}
	many := elements()
	t.Logf("ten policies: %d elements, sequential: %d", many, len(s.Sequential()))
	if got := told(); many > 200_000 || len(got) > 0 || len(s.Sequential()) != 1 || !allowed("172.16.0.1") {
		t.Errorf("ten policies: %d elements, and it is told: %q", many, got)
	}
	for n := 10; n < 20; n++ {
		s.SetClusterPolicy(crossing(n))
	}
	refused := elements()
	if got := told(); refused > 100 || len(got) != 1 || !strings.Contains(got[0], "are too many") {
		t.Errorf("twenty policies: %d elements, and it is told: %q", refused, got)
	}
	if allowed("172.16.0.1") || allowed("192.0.2.1") {
		t.Error("what exceeds the limit allows something")
	}
	for n := 1; n < 20; n++ {
		s.DeleteClusterPolicy(fmt.Sprintf("crossing-%d", n))
	}
	if got := elements(); got != one || !allowed("172.16.0.1") {
		t.Errorf("%d elements after the other policies have gone, want %d", got, one)
	}
	if got := told(); len(got) > 0 {
		t.Errorf("still told: %q", got)
	}
}

// TestTierNetworksOnce: a list has its networks once, not again for each combination of selectors that matches a pod.
func TestTierNetworksOnce(t *testing.T) {
	const pods, networks = 200, 2500
	s := translate.New("n", translate.Options{})
	s.SetNamespace("ns", map[string]string{})
	for i := range pods {
		p := policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprintf("p%d", i)}, Node: "n",
			Running: true, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})},
			Labels: map[string]string{},
		}
		for bit := range 8 {
			p.Labels[fmt.Sprintf("bit-%d", bit)] = fmt.Sprint(i >> bit & 1)
		}
		s.SetPod(p)
	}
	p := policy.ClusterPolicy{ClusterNetworkPolicy: &v1alpha2.ClusterNetworkPolicy{}}
	p.Name, p.Spec.Tier, p.Spec.Subject.Namespaces = "p", v1alpha2.AdminTier, &metav1.LabelSelector{}
	add := func(port int32, peers ...v1alpha2.ClusterNetworkPolicyEgressPeer) {
		p.Spec.Egress = append(p.Spec.Egress, v1alpha2.ClusterNetworkPolicyEgressRule{
			Action: v1alpha2.ClusterNetworkPolicyRuleActionDeny, To: peers,
			Protocols: []v1alpha2.ClusterNetworkPolicyProtocol{{
				TCP: &v1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: &v1alpha2.Port{Number: port}},
			}},
		})
	}
	for bit := range int32(8) {
		of := metav1.LabelSelector{MatchLabels: map[string]string{fmt.Sprintf("bit-%d", bit): "1"}}
		add(1+2*bit, v1alpha2.ClusterNetworkPolicyEgressPeer{Pods: &v1alpha2.NamespacedPod{PodSelector: of}})
	}
	var peers []v1alpha2.ClusterNetworkPolicyEgressPeer
	for i := range networks {
		if i%25 == 0 {
			peers = append(peers, v1alpha2.ClusterNetworkPolicyEgressPeer{})
		}
		last := &peers[len(peers)-1]
		last.Networks = append(last.Networks, v1alpha2.CIDR(fmt.Sprintf("172.16.%d.%d/32", i>>7, i&127<<1)))
	}
	for i := 0; len(peers) > 0; i++ {
		n := min(25, len(peers))
		add(int32(101+2*i), peers[:n]...)
		peers = peers[n:]
	}
	s.SetClusterPolicy(p)
	elements := 0
	for _, set := range s.Complete().Sets() {
		if strings.HasPrefix(set.Name, "admin-egress-") {
			elements += set.Len()
		}
	}
	// for each pod: an element, one that dispatches and one that counts; and its class has up to 8 ports
	if most := networks + pods*(3+8) + 100; elements > most {
		t.Errorf("%d elements, want %d at most", elements, most)
	}
	t.Logf("%d elements of %d pods and %d networks", elements, pods, networks)
}

// TestDenyingRulesAreKept: the denying rules are computed once, until a policy changes.
func TestDenyingRulesAreKept(t *testing.T) {
	s := translate.New("node", translate.Options{})
	deny := []v1alpha2.ClusterNetworkPolicyIngressRule{{Action: v1alpha2.ClusterNetworkPolicyRuleActionDeny,
		From: []v1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: &metav1.LabelSelector{}}}}}
	p := policy.ClusterPolicy{ClusterNetworkPolicy: &v1alpha2.ClusterNetworkPolicy{}}
	p.Name, p.Spec.Tier, p.Spec.Subject.Namespaces = "p", v1alpha2.AdminTier, &metav1.LabelSelector{}
	for rules := range 3 {
		p.ClusterNetworkPolicy = p.DeepCopy()
		p.Spec.Ingress = slices.Repeat(deny, rules)
		s.SetClusterPolicy(p)
		if n := len(s.DenyingRules()); n != rules {
			t.Errorf("%d rules that deny, want %d", n, rules)
		}
	}
	if n := testing.AllocsPerRun(10, func() { s.DenyingRules() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
	s.DeleteClusterPolicy("p")
	if n := len(s.DenyingRules()); n > 0 {
		t.Errorf("%d rules of a policy that is deleted", n)
	}
}

// TestTierEditBudget: an edit of one of many large policies does not format the others' peers again, which took several
// allocations for each.
func TestTierEditBudget(t *testing.T) {
	const policies, rules, peers = 100, 25, 25
	large := func(i int, port int32) policy.ClusterPolicy {
		p := policy.ClusterPolicy{ClusterNetworkPolicy: &v1alpha2.ClusterNetworkPolicy{}}
		p.Name, p.Spec.Tier, p.Spec.Priority = fmt.Sprintf("large-%d", i), v1alpha2.AdminTier, int32(i)
		p.Spec.Subject.Namespaces = &metav1.LabelSelector{}
		for range rules {
			r := v1alpha2.ClusterNetworkPolicyIngressRule{Action: v1alpha2.ClusterNetworkPolicyRuleActionAccept}
			r.Protocols = []v1alpha2.ClusterNetworkPolicyProtocol{{
				TCP: &v1alpha2.ClusterNetworkPolicyProtocolTCP{DestinationPort: &v1alpha2.Port{Number: port}},
			}}
			for k := range peers {
				r.From = append(r.From, v1alpha2.ClusterNetworkPolicyIngressPeer{Pods: &v1alpha2.NamespacedPod{
					PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", k)}},
				}})
			}
			p.Spec.Ingress = append(p.Spec.Ingress, r)
		}
		return p
	}
	s := translate.New("n", translate.Options{})
	s.SetNamespace("ns", map[string]string{})
	for i := range peers {
		s.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: fmt.Sprintf("p%d", i)}, Node: "n",
			Labels: map[string]string{"app": fmt.Sprintf("app-%d", i)}, Running: true,
			IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})},
		})
	}
	for i := range policies {
		s.SetClusterPolicy(large(i, 1000+int32(i)))
	}
	s.Complete()
	port := int32(2000)
	got := testing.AllocsPerRun(3, func() {
		port++
		s.SetClusterPolicy(large(policies/2, port))
		s.Complete()
	})
	if most := float64(2 * policies * rules * peers); got > most {
		t.Errorf("an edit takes %.0f allocations, want %.0f at most", got, most)
	}
	t.Logf("%.0f allocations of an edit among %d peers", got, policies*rules*peers)
}

// TestTierAuditWay: audited ingress, which is checked last, does not give ingress its own base chain, which packets of
// every pod would pass.
func TestTierAuditWay(t *testing.T) {
	s := translate.New("n", translate.Options{})
	s.SetNamespace("ns", map[string]string{})
	s.SetPod(policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: "ns", Name: "p"}, Node: "n", Running: true,
		IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
	})
	p := policy.ClusterPolicy{ClusterNetworkPolicy: &v1alpha2.ClusterNetworkPolicy{}}
	p.Name, p.Spec.Tier, p.Spec.Subject.Namespaces = "p", v1alpha2.AdminTier, &metav1.LabelSelector{}
	p.Annotations = map[string]string{policy.ModeAnnotation: "audit"}
	everywhere := &metav1.LabelSelector{}
	p.Spec.Ingress = []v1alpha2.ClusterNetworkPolicyIngressRule{{Action: v1alpha2.ClusterNetworkPolicyRuleActionDeny,
		From: []v1alpha2.ClusterNetworkPolicyIngressPeer{{Namespaces: everywhere}}}}
	chains := func() (asked, apart bool) {
		table := s.Complete()
		return table.Chain("audit-forward-ingress") != nil, table.Chain("forward-ingress") != nil
	}
	s.SetClusterPolicy(p)
	if asked, apart := chains(); !asked || apart {
		t.Errorf("ingress audited: %t, and it has a base chain of its own: %t", asked, apart)
	}
	p.ClusterNetworkPolicy = p.DeepCopy()
	p.Spec.Egress = []v1alpha2.ClusterNetworkPolicyEgressRule{{Action: v1alpha2.ClusterNetworkPolicyRuleActionDeny,
		To: []v1alpha2.ClusterNetworkPolicyEgressPeer{{Namespaces: everywhere}}}}
	s.SetClusterPolicy(p)
	if _, apart := chains(); !apart {
		t.Error("egress audited: what is audited of it is asked after ingress is decided")
	}
}
