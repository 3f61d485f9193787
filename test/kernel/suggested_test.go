// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/observe"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/suggest"
)

// TestSuggestedProbes: what a node sends to its own pods, such as the kubelet's probes, is not counted, so no policy is
// suggested for it, and suggested policies do not stop it. What the pod sends to its node is counted, and stays
// allowed.
func TestSuggestedProbes(t *testing.T) {
	pod := newPodLink(t)
	options := translate.Options{Observe: 100}
	o := &observed{T: t, conn: open(t), options: options, state: translate.New(node, options)}
	p := policy.Pod{NamespacedName: types.NamespacedName{Namespace: "shop", Name: "web"}, Node: node, Running: true,
		Labels: map[string]string{"app": "web"}, IPs: []netip.Addr{netip.MustParseAddr("10.244.1.2")}}
	o.state.SetPod(p)
	o.apply()
	probed := func(port int) bool {
		address := fmt.Sprintf("10.244.1.2:%d", port)
		pod.inside(t, func() { echo(t, "tcp", address) })
		return reaches("tcp", address, allowed)
	}
	if !probed(80) || !pod.asks(t, "tcp", 9000, allowed) {
		t.Fatal("nothing is isolated, but the node and its pod do not reach each other")
	}
	o.expect(observe.All, map[string]uint64{"10.244.1.2 > 10.244.1.1 tcp/9000": 1})

	r := suggest.Request{Cluster: &policy.Cluster{Pods: []policy.Pod{p},
		Namespaces: map[string]map[string]string{"shop": nil}}, Namespace: "shop"}
	for _, protocol := range []string{"tcp", "udp"} { // both, as each server of the node answers only once
		r.Flows = append(r.Flows, flows.Flow{From: flows.End{Address: p.IPs[0], Namespace: "shop", Pod: "shop/web"},
			To: flows.End{Address: netip.MustParseAddr("10.244.1.1"), Host: true}, Protocol: protocol, Port: 9000,
			Count: 1, First: time.Unix(1, 0), Last: time.Unix(1, 0), Verdict: flows.Allowed})
	}
	s := suggest.Suggest(r)
	for _, suggested := range s.Policies {
		if err := o.state.SetPolicy(suggested.NetworkPolicy); err != nil {
			t.Fatal(err)
		}
		if suggested.Direction == policy.Ingress && len(suggested.Spec.Ingress) > 0 {
			t.Errorf("ingress is suggested: %+v", suggested.Spec.Ingress)
		}
	}
	if names := policyNames(s); !cmp.Equal(names, []string{"web-egress", "web-ingress"}) {
		t.Fatalf("%q", names)
	}
	o.apply()
	if !probed(81) {
		t.Error("with the suggested policies, the node does not reach its own pod")
	}
	if !pod.asks(t, "tcp", 9001, denied) {
		o.expect(observe.Denied, map[string]uint64{"10.244.1.2 > 10.244.1.1 tcp/9001": 1})
	} else {
		t.Error("with the suggested policies, the pod reaches another port of its node")
	}
	if !pod.asks(t, "udp", 9000, allowed) {
		t.Error("with the suggested policies, the pod does not reach its node")
	}
}

func policyNames(s *suggest.Suggestion) []string {
	var names []string
	for _, p := range s.Policies {
		names = append(names, p.Name)
	}
	return names
}
