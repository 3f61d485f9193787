// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// TestPortions: while a large change of one namespace takes many transactions, a change of another is in the next one,
// and the loop is in sync when all of it is done.
func TestPortions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const isolations, peers, parts = 12, 20_000, 20
		var txs []*nft.Transaction
		l, _ := newTestLoop(t, kernelFunc(func(_ context.Context, tx *nft.Transaction) error {
			txs = append(txs, tx)
			time.Sleep(time.Second)
			return nil
		}))
		pod := func(o Objects, ns, name string, n int) {
			a := netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
			node := map[bool]string{true: "node", false: "other"}[strings.HasPrefix(name, "app")]
			o.SetPod(policy.Pod{
				NamespacedName: types.NamespacedName{Namespace: ns, Name: name}, Node: node,
				Labels: map[string]string{"app": name, "tier": fmt.Sprint(node, n%parts)},
				IPs:    []netip.Addr{a}, Running: true,
			})
		}
		allow := func(o Objects, ns, name string) {
			np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
			np.Spec.PodSelector.MatchLabels = map[string]string{"app": name}
			var rule networkingv1.NetworkPolicyIngressRule
			for i := range parts { // none matches so many that all isolations share its pods
				part := &metav1.LabelSelector{MatchLabels: map[string]string{"tier": fmt.Sprint("other", i)}}
				rule.From = append(rule.From, networkingv1.NetworkPolicyPeer{PodSelector: part})
			}
			np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{rule}
			o.SetPolicy(np)
		}
		l.Update(func(o Objects) {
			for i := range peers {
				pod(o, "large", fmt.Sprint("peer-", i), 1000+i)
			}
			for i := range isolations {
				pod(o, "large", fmt.Sprint("app-", i), 1+i)
			}
			pod(o, "small", "app", 100)
		})
		l.Synced()
		time.Sleep(time.Minute)
		synctest.Wait()
		before := len(txs)

		l.Update(func(o Objects) {
			for i := range isolations {
				allow(o, "large", fmt.Sprint("app-", i))
			}
		})
		time.Sleep(time.Second / 2)
		synctest.Wait()
		if len(txs) != before+1 || l.Status().InSync {
			t.Fatalf("%d transactions after half a second, in sync: %t", len(txs)-before, l.Status().InSync)
		}
		l.Update(func(o Objects) { allow(o, "small", "app") })
		time.Sleep(time.Second)
		synctest.Wait()
		small := slices.ContainsFunc(txs[len(txs)-1].Ops, func(op nft.Op) bool {
			return op.Verb == nft.AddChain && strings.HasSuffix(op.Chain.Name, "small/app")
		})
		if len(txs) != before+2 || !small || l.Status().InSync {
			t.Errorf("the change of another namespace is not in transaction 2 of the large change: %d, %t",
				len(txs)-before, small)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := len(txs) - before; n < 4 || n > isolations || !l.Status().InSync {
			t.Errorf("%d transactions, in sync: %t", n, l.Status().InSync)
		}
		for i, tx := range txs[before:] {
			if tx.Len() > 2*portion {
				t.Errorf("transaction %d has %d operations", i, tx.Len())
			}
		}
	})
}
