// SPDX-License-Identifier: Apache-2.0

package kernel_test

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
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// limits is a node with extraordinary sizes.
type limits struct {
	*testing.T
	prober *prober.Prober
	conn   *kernel.Conn
	state  *translate.State
}

func newLimits(t *testing.T) *limits {
	l := &limits{T: t, prober: prober.New(t), conn: open(t)}
	l.state = translate.New(node, translate.Options{LogGroup: 86})
	l.state.SetNamespace("ns", map[string]string{})
	return l
}

// pod sets a pod with the label app, at an address in 10.0.0.0/8.
func (l *limits) pod(name, app, on string, n int) netip.Addr {
	a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
	l.state.SetPod(policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, Node: on,
		Labels: map[string]string{"app": app}, IPs: []netip.Addr{a}, Running: true,
	})
	return a
}

// policyFor returns a policy with rules for the pods of an app.
func policyFor(name, app string, rules ...networkingv1.NetworkPolicyIngressRule) *networkingv1.NetworkPolicy {
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": app}
	np.Spec.Ingress = rules
	return np
}

// port is a TCP port of a policy.
func port(n int) networkingv1.NetworkPolicyPort {
	number := intstr.FromInt(n)
	return networkingv1.NetworkPolicyPort{Port: &number}
}

// set sets a policy.
func (l *limits) set(np *networkingv1.NetworkPolicy) {
	l.Helper()
	if err := l.state.SetPolicy(np); err != nil {
		l.Fatal(err)
	}
}

// allow sets a policy that allows pods of one app to reach those of another, on a TCP port.
func (l *limits) allow(name, to, from string, n int) {
	l.Helper()
	peers := &metav1.LabelSelector{MatchLabels: map[string]string{"app": from}}
	l.set(policyFor(name, to, networkingv1.NetworkPolicyIngressRule{
		From:  []networkingv1.NetworkPolicyPeer{{PodSelector: peers}},
		Ports: []networkingv1.NetworkPolicyPort{port(n)},
	}))
}

// commit commits what is pending.
func (l *limits) commit() {
	l.Helper()
	apply(l.T, l.conn, l.state)
}

// chain returns the chain of the only isolation.
func (l *limits) chain() *nft.Chain {
	l.Helper()
	for _, c := range l.state.Complete().Chains() {
		if strings.HasPrefix(c.Name, "ingress-") {
			return c
		}
	}
	l.Fatal("no isolation")
	return nil
}

// TestManyPeers: 10,000 peers are 10,000 elements of one set, in the kernel too, and each of them is allowed.
func TestManyPeers(t *testing.T) {
	const peers = 10_000
	l := newLimits(t)
	db := l.pod("db", "db", node, 1)
	probes := make([]prober.Probe, 0, peers+1)
	for i := range peers {
		a := l.pod(fmt.Sprintf("web-%d", i), "web", "other", 1000+i)
		probes = append(probes, prober.Probe{Src: a, Dst: db, Proto: nft.TCP, DstPort: 80})
	}
	stranger := l.pod("stranger", "stranger", "other", 2)
	l.allow("web", "db", "web", 80)
	l.commit()
	for _, set := range l.state.Complete().Sets() {
		if set.Type.Fields != nft.AddrProtoPort {
			continue
		}
		elements, err := l.conn.Elements(t.Context(), frame.TableName, set.Name, set.Type)
		if err != nil || len(elements) != peers {
			t.Errorf("set %s has %d elements in the kernel (%v), want %d", set.Name, len(elements), err, peers)
		}
	}
	got, err := l.prober.Run(append(probes, prober.Probe{Src: stranger, Dst: db, Proto: nft.TCP, DstPort: 80}))
	if err != nil {
		t.Fatal(err)
	}
	for i, forwarded := range got {
		if forwarded != (i < peers) {
			t.Fatalf("probe %d of %d: forwarded %t", i, peers, forwarded)
		}
	}
}

// TestManyPolicies: a thousand policies on one pod make its chain no longer than one does, and all are enforced.
func TestManyPolicies(t *testing.T) {
	const policies = 1000
	l := newLimits(t)
	db := l.pod("db", "db", node, 1)
	var allowed, denied []prober.Probe
	for i := range policies {
		a := l.pod(fmt.Sprintf("web-%d", i), fmt.Sprintf("web-%d", i), "other", 1000+i)
		allowed = append(allowed, prober.Probe{Src: a, Dst: db, Proto: nft.TCP, DstPort: uint16(1000 + i)})
		denied = append(denied, prober.Probe{Src: a, Dst: db, Proto: nft.TCP, DstPort: uint16(1001 + i)})
	}
	l.allow("web-0", "db", "web-0", 1000)
	l.commit()
	rules := len(l.chain().Rules)
	for i := range policies {
		l.allow(fmt.Sprintf("web-%d", i), "db", fmt.Sprintf("web-%d", i), 1000+i)
	}
	l.commit()
	if got := len(l.chain().Rules); got != rules {
		t.Errorf("%d rules for %d policies, %d for one", got, policies, rules)
	}
	got, err := l.prober.Run(append(allowed, denied...))
	if err != nil {
		t.Fatal(err)
	}
	for i, forwarded := range got {
		if forwarded != (i < policies) {
			t.Fatalf("probe %d of %d: forwarded %t", i, policies, forwarded)
		}
	}
}
