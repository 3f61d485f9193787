// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"fmt"
	"io"
	"net/netip"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/connectivity/render"
	"github.com/netpold/netpold/translate/policy"
)

// The networks of a connection are formatted a few times, not whenever two connections are compared.
func TestTextOfManyNetworks(t *testing.T) {
	const pods, blocks = 200, 50
	c := &policy.Cluster{Namespaces: map[string]map[string]string{"n": {}}}
	for i := range pods {
		app := map[string]string{"app": fmt.Sprint(i)}
		c.Pods = append(c.Pods, policy.Pod{NamespacedName: types.NamespacedName{Namespace: "n", Name: fmt.Sprint(i)},
			Labels: app, Running: true, IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(i)})}})
		np := new(networkingv1.NetworkPolicy)
		np.Namespace, np.Name, np.Spec.PodSelector.MatchLabels = "n", fmt.Sprint(i), app
		np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeEgress}
		var to []networkingv1.NetworkPolicyPeer
		for b := range blocks {
			cidr := fmt.Sprintf("192.%d.%d.0/24", i, 2*b)
			to = append(to, networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: cidr}})
		}
		np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: to}}
		c.Policies = append(c.Policies, np)
	}
	v := render.New(connectivity.New(c), "")
	n := testing.AllocsPerRun(1, func() {
		if err := render.Text(io.Discard, v); err != nil {
			t.Fatal(err)
		}
	}) / pods
	t.Logf("%.0f allocations for each connection of %d networks", n, blocks)
	if n > 12*blocks {
		t.Errorf("%.0f allocations for each connection of %d networks", n, blocks)
	}
}
