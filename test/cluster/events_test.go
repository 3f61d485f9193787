// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package cluster

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/prober"
)

// TestEvents: kubectl shows users what is wrong with a policy, and what their pods' policies blocked.
func TestEvents(t *testing.T) {
	a := newAgent(t, "--drop-events")
	_, err := a.admin.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	a.must(err)
	a.pod("shop", "server", "10.1.0.1", map[string]string{"app": "server"})
	a.pod("shop", "client", "10.1.0.2", map[string]string{"app": "client"})
	a.rejected()
	a.blocked()
	a.forbidden()
}

// events returns the events of the namespace shop with a reason.
func (a *agent) events(reason string) []corev1.Event {
	a.Helper()
	list, err := a.admin.CoreV1().Events("shop").List(a.Context(),
		metav1.ListOptions{FieldSelector: "reason=" + reason})
	a.must(err)
	return list.Items
}

// kubectl returns what kubectl prints.
func (a *agent) kubectl(args ...string) string {
	a.Helper()
	out, err := a.cluster.Kubectl(a.Context(), args...)
	a.must(err)
	a.Logf("kubectl %s\n%s", strings.Join(args, " "), out)
	return out
}

// rejected: a policy that an older API server accepted has an event for each thing that is wrong with it; a valid one
// has none.
func (a *agent) rejected() {
	a.create(policy("shop", "fine",
		networkingv1.NetworkPolicyPeer{PodSelector: selected(map[string]string{"access": "granted"})}))
	bad := policy("shop", "bad", networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.0.0.0/33"}})
	bad.TypeMeta = metav1.TypeMeta{APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy"}
	bad.UID, bad.CreationTimestamp = types.UID("5a3c3b1e-6f0e-4f6c-9d2b-0c2f6f1d7a11"), metav1.Now()
	a.must(a.cluster.Store(a.Context(), "networkpolicies", bad))
	a.until("the policy has an event", func() bool { return len(a.events("NetworkPolicyRejected")) > 0 })
	a.kill()
	a.start() // like a second node, it does not know of the event
	a.until("the restarted netpold has told it again", func() bool {
		return a.answered("/namespaces/shop/events", http.StatusConflict)
	})
	const cidr = `spec.ingress[0].from[0].ipBlock.cidr: Invalid value: "10.0.0.0/33"`
	events := a.events("NetworkPolicyRejected")
	if len(events) != 1 || !strings.Contains(events[0].Message, cidr) || events[0].Type != corev1.EventTypeWarning {
		a.Errorf("events: %+v", events)
	}
	want := corev1.ObjectReference{
		APIVersion: "networking.k8s.io/v1", Kind: "NetworkPolicy", Namespace: "shop", Name: "bad", UID: bad.UID,
	}
	if got := events[0].InvolvedObject; got != want {
		a.Errorf("involved object %+v, want %+v", got, want)
	}
	if out := a.kubectl("events", "--namespace=shop",
		"--for=networkpolicy.networking.k8s.io/bad"); !strings.Contains(out, cidr) {
		a.Errorf("kubectl events: %s", out)
	}

	mended := bad.DeepCopy()
	mended.Spec.Ingress[0].From[0].IPBlock.CIDR = "10.0.0.0/24"
	_, err := a.admin.NetworkingV1().NetworkPolicies("shop").Update(a.Context(), mended, metav1.UpdateOptions{})
	a.must(err)
	a.until("the policy is mended", func() bool { return len(a.status().Policies.Troubles) == 0 })
	bad.Spec.Ingress[0].From[0].IPBlock.CIDR = "10.0.0/24"
	a.must(a.cluster.Store(a.Context(), "networkpolicies", bad))
	a.until("what is wrong now has an event", func() bool { return len(a.events("NetworkPolicyRejected")) == 2 })
}

// answered says whether the API server gave netpold that answer to a request without query.
func (a *agent) answered(uri string, code int) bool {
	a.Helper()
	requests, err := a.cluster.Requests()
	a.must(err)
	for _, r := range requests {
		if r.Code == code && strings.HasSuffix(r.URI, uri) {
			return true
		}
	}
	return false
}

// blocked: a pod's events say what its policies blocked, and how often; allowed connections and pods of other nodes
// have none.
func (a *agent) blocked() {
	probe := prober.Probe{Src: netip.MustParseAddr("10.1.0.2"), Dst: netip.MustParseAddr("10.1.0.1"),
		Proto: nft.TCP, DstPort: 80}
	count := func() int32 {
		if _, err := a.prober.Run([]prober.Probe{probe}); err != nil {
			a.Fatal(err)
		}
		var n int32
		for _, e := range a.events("ConnectionBlocked") {
			n = max(n, e.Count)
		}
		return n
	}
	a.until("a blocked connection has an event", func() bool { return count() > 0 })
	a.until("it is told again, as the same", func() bool { return count() > 1 })
	server, err := a.admin.CoreV1().Pods("shop").Get(a.Context(), "server", metav1.GetOptions{})
	a.must(err)
	want := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "server", UID: server.UID}
	events := a.events("ConnectionBlocked")
	if len(events) != 1 || events[0].InvolvedObject != want ||
		events[0].Source != (corev1.EventSource{Component: "netpold", Host: agentNode}) {
		a.Fatalf("events: %+v", events)
	}
	const text = "TCP connection from shop/client (10.1.0.2:"
	if out := a.kubectl("describe", "pod", "--namespace=shop", "server"); !strings.Contains(out, text) {
		a.Errorf("kubectl describe: %s", out)
	}
	a.kubectl("events", "--namespace=shop")
	a.kubectl("get", "events", "--namespace=shop")
}
