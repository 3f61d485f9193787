// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netpold/netpold/test/harness/cpu"
	"github.com/netpold/netpold/test/harness/netns"
)

// eachChainOnce is what Linux 6.19 and the stable versions of its time have, Debian's 6.1 not.
const eachChainOnce = "a commit that walks each chain once"

// TestGraph: what a commit of one more pod takes does not grow with the square of the pods that are isolated in both
// directions. The kernel walks the chains from the hook on; one that walks each way on its own, and not each chain
// once, goes to every ingress chain from each rule of egress that accepts.
func TestGraph(t *testing.T) {
	longest := func(t *testing.T, pods int) (unit, took float64) {
		l := newLimits(t)
		for i := range pods {
			l.both(i)
		}
		others := newOtherWriter(t)
		l.commit()
		for i := range 5 {
			l.both(pods + i)
			tx := l.state.Complete().Take()
			before := cpu.Thread()
			if _, err := l.conn.Apply(t.Context(), tx); err != nil {
				t.Fatal(err)
			}
			took = max(took, float64(cpu.Thread()-before))
		}
		return float64(others.cpu), took
	}
	for _, pods := range []int{30, 110, 250} {
		t.Run(fmt.Sprint(pods), func(t *testing.T) {
			unit, took := longest(t, pods)
			t.Logf("with %d pods that have policies of their own one more takes %.1f ms of CPU time, as much as %.2f "+
				"transactions of %d elements", pods, took/1e6, took/unit, unitElements)
			if took > unit && !testing.Short() {
				netns.Lacks(t, eachChainOnce, 6, 12)
			}
		})
	}
}

// both sets a pod with a policy of its own for both directions: a few pods, blocks and namespaces, each with ports.
func (l *limits) both(n int) {
	l.Helper()
	app := fmt.Sprintf("app-%d", n)
	l.pod(app, app, node, 1+n)
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: app}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": app}
	np.Spec.PolicyTypes = []networkingv1.PolicyType{"Ingress", "Egress"}
	ports := []networkingv1.NetworkPolicyPort{port(80), port(443)}
	var peers []networkingv1.NetworkPolicyPeer
	for i := range 3 {
		peers = append(peers,
			networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", n+i)}}},
			networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{
				MatchLabels: map[string]string{"team": fmt.Sprintf("team-%d", i)}}},
			networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("172.16.%d.0/24", i)}})
	}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers, Ports: ports}}
	np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: peers, Ports: ports}}
	if err := l.state.SetPolicy(np); err != nil {
		l.Fatal(err)
	}
}
