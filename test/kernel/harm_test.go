// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/stages"
	"github.com/netpold/netpold/test/harness/cpu"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// commitRatio limits the cost of one commit, which holds up everybody else, in transactions of unitElements in the same
// run. The longest cost some 4 of them; before there were portions, 300 and more.
const commitRatio = 12

// mostCPU limits the CPU time that netpold uses to make transactions. On an idle machine it uses a fifth of it.
const mostCPU = 200 * time.Millisecond

// mostCommits limits the number of commits for a change, some 30 ms each, during which netpold does nothing else.
const mostCommits = 60

// meter is a kernel that measures its longest commit: the kernel works within the call, holding its lock.
type meter struct {
	watch.Kernel
	longest time.Duration
	commits int
}

// Apply commits tx as the kernel does, stage by stage.
func (m *meter) Apply(ctx context.Context, tx *nft.Transaction) (nft.Result, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var result nft.Result
	for _, stage := range stages.Of(tx) {
		before := cpu.Thread()
		r, err := m.Kernel.Apply(ctx, stage)
		if err != nil {
			return nft.Result{}, err
		}
		result.Add(r)
		m.longest = max(m.longest, cpu.Thread()-before)
		m.commits++
	}
	return result, nil
}

// oddPorts returns a policy for the pods of an app that opens every odd port, to peers, or to anybody if there are
// none.
func oddPorts(name, app string, peers ...networkingv1.NetworkPolicyPeer) *networkingv1.NetworkPolicy {
	rule := networkingv1.NetworkPolicyIngressRule{From: peers}
	for n := 1; n <= 65535; n += 2 {
		rule.Ports = append(rule.Ports, port(n))
	}
	return policyFor(name, app, rule)
}

// nestedBlocks returns a policy for the pods of an app with n rules, each with a block inside the one before and its
// own port: port 1+2i is open to 10.9.0.0/16 from its i-th address on.
func nestedBlocks(app string, n int) *networkingv1.NetworkPolicy {
	np := policyFor(app, app)
	for i := range n {
		block := &networkingv1.IPBlock{CIDR: "10.9.0.0/16"}
		for bit, at := 15, 0; bit >= 0; bit-- {
			if i&(1<<bit) != 0 {
				block.Except = append(block.Except, fmt.Sprintf("10.9.%d.%d/%d", at>>8, at&255, 32-bit))
				at += 1 << bit
			}
		}
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{
			From:  []networkingv1.NetworkPolicyPeer{{IPBlock: block}},
			Ports: []networkingv1.NetworkPolicyPort{port(1 + 2*i)},
		})
	}
	return np
}

// bothWays gives a policy of ingress the same rules for egress.
func bothWays(np *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	for _, rule := range np.Spec.Ingress {
		np.Spec.Egress = append(np.Spec.Egress, networkingv1.NetworkPolicyEgressRule{To: rule.From, Ports: rule.Ports})
	}
	return np
}

// TestHarm: legal policies of half a megabyte and more hold up neither other writers of the kernel nor other work of
// netpold, and allow what they should.
func TestHarm(t *testing.T) {
	client := func(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 9, byte(n >> 8), byte(n)}) }
	everyPod := networkingv1.NetworkPolicyPeer{PodSelector: &metav1.LabelSelector{}}
	everyNamespace := networkingv1.NetworkPolicyPeer{NamespaceSelector: &metav1.LabelSelector{}}
	block := networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: "10.9.0.0/16"}}
	for name, c := range map[string]struct {
		policies func(l *limits) []*networkingv1.NetworkPolicy
		allowed  func(client, port int) bool
	}{
		"32,768 odd ports, 20 pods of different isolations": {
			func(l *limits) (all []*networkingv1.NetworkPolicy) {
				for i := range 20 {
					app := fmt.Sprintf("app-%d", i)
					l.pod(app, app, node, 1+i)
					peers := [][]networkingv1.NetworkPolicyPeer{nil, {everyPod}, {everyNamespace}, {block}}
					all = append(all, oddPorts(app, app, peers[i%4]...))
				}
				return all
			},
			func(_, port int) bool { return port%2 == 1 },
		},
		"1,000 nested blocks, each with its port": {
			func(l *limits) []*networkingv1.NetworkPolicy {
				l.pod("app", "app", node, 1)
				return []*networkingv1.NetworkPolicy{nestedBlocks("app", 1000)}
			},
			func(client, port int) bool { return port%2 == 1 && port/2 <= client && port/2 < 1000 },
		},
		"1,500 nested blocks in both directions": {
			func(l *limits) []*networkingv1.NetworkPolicy {
				l.pod("app", "app", node, 1)
				return []*networkingv1.NetworkPolicy{bothWays(nestedBlocks("app", 1500))}
			},
			func(client, port int) bool { return port%2 == 1 && port/2 <= client && port/2 < 1500 },
		},
	} {
		t.Run(name, func(t *testing.T) {
			if testing.Short() && strings.Contains(name, "both directions") {
				t.Skip("takes minutes on a kernel that walks every path through the chains: TestGraph")
			}
			l := newLimits(t)
			for i := range 20 {
				n := i * 70
				l.pod(fmt.Sprintf("client-%d", n), "client", "other", 9<<16+n)
			}
			policies := c.policies(l)
			m := &meter{Kernel: l.conn}
			loop := l.loopOn(m)
			others := newOtherWriter(t)
			loop.Synced()
			others.until(func() bool { return loop.Status().InSync })
			others.report("small table")

			m.longest, m.commits = 0, 0
			before := loop.Status().Transactions
			loop.Update(func(o watch.Objects) {
				for _, np := range policies {
					o.SetPolicy(np)
				}
			})
			others.until(func() bool { s := loop.Status(); return s.Transactions > before && s.InSync })
			m.report(t, "policies", others.cpu)
			others.report("policies")
			loop.Drifted("test")
			others.until(func() bool { s := loop.Status(); return s.InSync && s.Recoveries == 1 })
			m.report(t, "replacement", others.cpu)
			others.report("replacement")

			var probes []prober.Probe
			var want []bool
			for i := range 20 {
				for _, port := range []int{1, 2, 3, 139, 140, 141, 999, 1000, 1001, 1999, 2001, 65534, 65535} {
					dst := netip.AddrFrom4([4]byte{10, 0, 0, byte(1 + i%len(policies))})
					probes = append(probes, prober.Probe{Src: client(i * 70), Dst: dst, Proto: nft.TCP,
						DstPort: uint16(port)})
					want = append(want, c.allowed(i*70, port))
				}
			}
			got, err := l.prober.Run(probes)
			if err != nil {
				t.Fatal(err)
			}
			for i := range got {
				if got[i] != want[i] {
					t.Fatalf("%s: forwarded %t", probes[i], got[i])
				}
			}
		})
	}
}

// report logs the longest commit, which must not be long, except on an emulated processor.
func (m *meter) report(t *testing.T, what string, unit time.Duration) {
	t.Helper()
	ratio := float64(m.longest) / float64(unit)
	t.Logf("%s: %d commits, the longest took %v of CPU time, as much as %.1f transactions of %d elements (%v)",
		what, m.commits, m.longest, ratio, unitElements, unit)
	if ratio > commitRatio && !testing.Short() {
		netns.Lacks(t, eachChainOnce, 6, 12)
	}
	if m.commits > mostCommits {
		t.Errorf("%s: %d commits", what, m.commits)
	}
	m.longest, m.commits = 0, 0
}

// TestHarmless: completing the table with such a policy takes little time, too.
func TestHarmless(t *testing.T) {
	for name, np := range map[string]*networkingv1.NetworkPolicy{
		"32,768 odd ports":     oddPorts("app", "app"),
		"10,000 nested blocks": nestedBlocks("app", 10_000),
		"30,000 rules":         manyRules(30_000, nil),
		"30,000 rules of one peer": manyRules(30_000,
			[]networkingv1.NetworkPolicyPeer{{PodSelector: &metav1.LabelSelector{}}}),
	} {
		s := translate.New(node, translate.Options{})
		l := &limits{T: t, state: s}
		l.pod("app", "app", node, 1)
		for i := range 100 {
			l.pod(fmt.Sprint("other-", i), "other", "other", 1000+i)
		}
		s.Complete().Take()
		runtime.LockOSThread()
		before := cpu.Thread()
		if err := s.SetPolicy(np); err != nil {
			t.Fatal(err)
		}
		compiled := cpu.Thread()
		tx := s.Complete().Take()
		after := cpu.Thread()
		runtime.UnlockOSThread()
		t.Logf("%s, %d bytes: set in %v, completed in %v, %d operations in %d stages", name, np.Size(), compiled-before,
			after-compiled, tx.Len(), len(stages.Of(tx)))
		if took := after - before; took > 5*mostCPU && !testing.Short() {
			t.Errorf("%s: %v of CPU time", name, took)
		}
	}
}

// TestNamespaceLimit: a namespace that asks for too much gets its limit of elements and no more, a change in another
// namespace is still one small transaction, and netpold has memory for it.
func TestNamespaceLimit(t *testing.T) {
	const isolations, peers = 24, 30_000
	s := translate.New(node, translate.Options{Limits: content.DefaultLimits()})
	l := &limits{T: t, state: s}
	var none, full runtime.MemStats
	for i := range peers {
		l.pod(fmt.Sprint("peer-", i), "peer", "other", 1<<16+i)
	}
	for i := range isolations {
		l.pod(fmt.Sprint("app-", i), fmt.Sprint("app-", i), node, 1+i)
	}
	s.Complete().Take()
	runtime.GC()
	runtime.ReadMemStats(&none)
	for i := range isolations {
		l.allow(fmt.Sprint("app-", i), fmt.Sprint("app-", i), "peer", 80+i)
	}
	transactions := 0
	for more := true; more; transactions++ {
		var table *nft.Table
		table, more = s.Portion(50_000)
		table.Take()
		table.Reap(table.Retired())
		table.Take()
	}
	runtime.GC()
	runtime.ReadMemStats(&full)
	elements, over := s.Summary().Elements, 0
	for range s.Troubles() {
		over++
	}
	perElement := float64(full.HeapAlloc-none.HeapAlloc) / float64(elements)
	t.Logf("%d elements in %d transactions, %d policies over the limit, %.0f bytes of heap an element", elements,
		transactions, over, perElement)
	if most := content.DefaultLimits().Namespace + 1000; elements > most || over == 0 {
		t.Errorf("%d elements, at most %d; %d policies over the limit", elements, most, over)
	}
	if perElement > 250 {
		t.Errorf("%.0f bytes of heap an element", perElement)
	}

	s.SetPod(policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: "small", Name: "app"}, Node: node,
		IPs: []netip.Addr{netip.MustParseAddr("10.255.0.1")}, Running: true,
	})
	if err := s.SetPolicy(&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "small",
		Name: "deny"}}); err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	before := cpu.Thread()
	table, more := s.Portion(50_000)
	tx := table.Take()
	took := cpu.Thread() - before
	runtime.UnlockOSThread()
	t.Logf("a change in another namespace: %d operations, %v of CPU time", tx.Len(), took)
	if more || tx.Len() > 20 || took > mostCPU/10 {
		t.Errorf("a change in another namespace: %d operations, more: %t, %v of CPU time", tx.Len(), more, took)
	}
}

// manyRules returns a policy of n rules with the same peers, each with its own port.
func manyRules(n int, peers []networkingv1.NetworkPolicyPeer) *networkingv1.NetworkPolicy {
	np := policyFor("app", "app")
	for i := range n {
		np.Spec.Ingress = append(np.Spec.Ingress, networkingv1.NetworkPolicyIngressRule{
			From: peers, Ports: []networkingv1.NetworkPolicyPort{port(1 + 2*i)},
		})
	}
	return np
}

// loopOn returns a loop that runs on the state, with a kernel.
func (l *limits) loopOn(k watch.Kernel) *watch.Loop {
	l.Helper()
	loop := watch.NewLoop(l.state, watch.LoopConfig{
		Kernel: k, Log: slog.New(slog.DiscardHandler), Source: "test",
	})
	ctx, cancel := context.WithCancel(l.Context())
	done := make(chan struct{})
	go func() { defer close(done); loop.Run(ctx) }()
	l.Cleanup(func() { cancel(); <-done })
	return loop
}
