// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// flipped is how many pods the relabelled namespace has.
const flipped = 10_000

// relabel measures a namespace whose new labels add all of its pods to the rules here, or remove them.
func (b *bench) relabel(ctx context.Context) error {
	rounds := 7
	if b.quick {
		rounds = 5
	}
	took := figures.Measure{
		ID: "control/relabel", Title: "Namespace relabelled", X: "what policies here select",
		Y: "from event to commit", Unit: "ms",
		Note: fmt.Sprintf("Its new labels put its %s pods into what policies of this node select, or take them out "+
			"again, ", thousands(flipped)) +
			"in a cluster with 10,000 more pods and 1,000 policies.",
	}
	transactions := figures.Measure{ID: "control/relabel/transactions", Title: "Namespace relabelled: transactions",
		X: took.X,
		Y: "kernel transactions", Unit: "1"}
	for i, shape := range []struct {
		label string
		peer  networkingv1.NetworkPolicyPeer
	}{
		{"whole namespaces", networkingv1.NetworkPolicyPeer{NamespaceSelector: selector("team", "chosen")}},
		{"pods of namespaces, on one port", networkingv1.NetworkPolicyPeer{NamespaceSelector: selector("team",
			"chosen"), PodSelector: selector("role", "client")}},
	} {
		state, err := relabelled(shape.peer)
		if err != nil {
			return err
		}
		err = withLoop(ctx, state, func(l *runningLoop) error {
			in, out, count, err := l.relabels(ctx, rounds)
			if err != nil {
				return err
			}
			for _, p := range []struct {
				m      *figures.Measure
				series string
				rounds []float64
			}{{&took, "pods come in", in}, {&took, "pods go out", out}, {&transactions, seriesNetpold, count}} {
				q := figures.NewPoint(float64(i), p.rounds)
				q.Label = shape.label
				p.m.Add(p.series, q)
			}
			b.progress("namespace relabelled, %s: %s", shape.label, summary(&took, 0))
			return nil
		})
		if err != nil {
			return fmt.Errorf("namespace relabelled: %w", err)
		}
	}
	b.add(took)
	b.add(transactions)
	return nil
}

// relabels changes the label back and forth several times. It returns how long it took until the pods were in, and out,
// and how many transactions.
func (l *runningLoop) relabels(ctx context.Context, rounds int) (in, out, count []float64, err error) {
	if _, err := l.start(); err != nil {
		return nil, nil, nil, err
	}
	for range rounds {
		came, n, err := l.relabel(ctx, "chosen")
		if err != nil {
			return nil, nil, nil, err
		}
		went, m, err := l.relabel(ctx, "other")
		if err != nil {
			return nil, nil, nil, err
		}
		in, out, count = append(in, came), append(out, went), append(count, n, m)
	}
	return in, out, count, nil
}

// relabelled is a cluster with one large namespace, and a policy on a pod of the node that allows the peer.
func relabelled(peer networkingv1.NetworkPolicyPeer) (*translate.State, error) {
	state := translate.New(nodeName, translate.Options{LogGroup: 86})
	z := size{10_000, 1000}
	if err := z.fill(state); err != nil {
		return nil, err
	}
	state.SetNamespace("large", map[string]string{"team": "other"})
	more := size{z.pods + flipped, z.policies} // for addresses that follow
	for i := range flipped {
		state.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "large", Name: fmt.Sprintf("pod-%d", i)},
			Node:           "other", Running: true,
			Labels: map[string]string{"role": "client", "app": fmt.Sprintf("app-%d", i/podsPerApp)},
			IPs:    more.ips(z.pods + i),
		})
	}
	local, _, err := policy.PodFrom(z.pod(z.localPods()[0]))
	if err != nil {
		return nil, err
	}
	return state, state.SetPolicy(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: local.Namespace, Name: "let-team-in"},
		Spec:       ingress(selector(appLabel, local.Labels[appLabel]), rulePorts(number(8080)), peer),
	})
}

// relabel changes the label and returns how long it took until the kernel had it, in milliseconds, and in how many
// transactions.
func (l *runningLoop) relabel(ctx context.Context, team string) (ms, transactions float64, err error) {
	before, err := l.kernel.Generation(ctx)
	if err != nil {
		return 0, 0, err
	}
	took, err := l.event(func(o watch.Objects) { o.SetNamespace("large", map[string]string{"team": team}) })
	if err != nil {
		return 0, 0, err
	}
	after, err := l.kernel.Generation(ctx)
	return milliseconds(took), float64(after - before), err
}
