// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netpold/netpold/test/harness/cpu"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate"
)

// eachChainOnce is a feature of Linux 6.19 and the stable versions of its time, but not of Debian's 6.1.
const eachChainOnce = "a commit that walks each chain once"

// TestGraph: committing one more pod does not take time quadratic in what is allowed in both directions. The kernel
// walks the chains from the hook on; if it walks every path, and not each chain once, it visits every ingress chain
// from each egress rule that accepts.
func TestGraph(t *testing.T) {
	var rows []graph
	for _, pods := range []int{30, 110, 250} {
		rows = append(rows, graph{fmt.Sprintf("%d pods with policies of their own", pods), func(l *limits) {
			for i := range pods {
				l.both(i)
			}
		}, func(l *limits, i int) { l.both(pods + i) }})
	}
	for _, blocks := range []int{100, 400} {
		rows = append(rows, graph{fmt.Sprintf("%d nested blocks, each with its port", blocks), func(l *limits) {
			l.pod("app", "app", node, 1)
			l.set(bothWays(nestedBlocks("app", blocks)))
		}, func(l *limits, i int) { l.pod(fmt.Sprint("more-", i), "app", node, 2+i) }})
	}
	for _, g := range rows {
		t.Run(g.name, func(t *testing.T) {
			if g.unit(t, translate.Options{LogGroup: 86}) > 1 && !testing.Short() {
				netns.Lacks(t, eachChainOnce, 6, 12)
			}
		})
		t.Run(g.name+", two ways", func(t *testing.T) {
			if g.unit(t, translate.Options{LogGroup: 86, TwoWays: true}) > 1 && !testing.Short() {
				t.Error("too much")
			}
		})
	}
}

// graph is a node on which much is allowed in both directions, and a way to add a pod.
type graph struct {
	name string
	set  func(l *limits)
	more func(l *limits, i int)
}

// unit returns the cost of committing one more pod, in transactions of unitElements.
func (g graph) unit(t *testing.T, o translate.Options) float64 {
	t.Helper()
	l := newLimits(t)
	l.state = translate.New(node, o)
	l.state.SetNamespace("ns", map[string]string{})
	g.set(l)
	unit := newOtherWriter(t).cpu
	l.commit()
	var took time.Duration
	for i := range 3 {
		g.more(l, i)
		tx := l.state.Complete().Take()
		before := cpu.Thread()
		if _, err := l.conn.Apply(t.Context(), tx); err != nil {
			t.Fatal(err)
		}
		took = max(took, cpu.Thread()-before)
	}
	t.Logf("one more pod takes %v of CPU time, as much as %.2f transactions of %d elements", took,
		float64(took)/float64(unit), unitElements)
	return float64(took) / float64(unit)
}

// both adds a pod with its own policy for both directions: a few pods, blocks and namespaces, each with ports.
func (l *limits) both(n int) {
	l.Helper()
	app := fmt.Sprintf("app-%d", n)
	l.pod(app, app, node, 1+n)
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
	l.set(bothWays(policyFor(app, app, networkingv1.NetworkPolicyIngressRule{From: peers, Ports: ports})))
}
