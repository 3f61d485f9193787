// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// fill adds a cluster to a state.
func (z size) fill(s *translate.State) error {
	for i := range z.namespaces() {
		ns := z.namespace(i)
		s.SetNamespace(ns.Name, ns.Labels)
	}
	for i := range z.pods {
		p, _, err := policy.PodFrom(z.pod(i))
		if err != nil {
			return err
		}
		s.SetPod(p)
	}
	for i := range z.policies {
		if err := s.SetPolicy(z.policy(i)); err != nil {
			return err
		}
	}
	return nil
}

// controlPath measures the time from an event to the kernel.
func (b *bench) controlPath(ctx context.Context) error {
	rounds, list, events := 5, sizes(), 400
	if b.quick {
		rounds, list, events = 5, []size{{1000, 100}, {10_000, 1000}}, 100
	}
	kinds := make(map[size][]kindOfEvent)
	for _, z := range list {
		var err error
		if kinds[z], err = z.kinds(); err != nil {
			return err
		}
	}
	measured := make(map[string]map[size][]float64) // by measure and size, the rounds
	for range rounds {
		for _, z := range list {
			begin := time.Now()
			results, err := z.controlRound(ctx, kinds[z], events)
			if err != nil {
				return fmt.Errorf("%s: %w", z, err)
			}
			for id, v := range results {
				if measured[id] == nil {
					measured[id] = make(map[size][]float64)
				}
				measured[id][z] = append(measured[id][z], v)
			}
			b.progress("control %s: start %.0f ms, pod p50 %.3f p99 %.3f ms, round %.1fs", z,
				results["control/start"], results["control/pod/p50"], results["control/pod/p99"],
				time.Since(begin).Seconds())
		}
	}
	for _, m := range controlMeasures(kinds[list[0]]) {
		for _, z := range list {
			name := thousands(z.policies) + " policies"
			if rounds := measured[m.ID][z]; rounds != nil {
				m.Add(name, figures.NewPoint(float64(z.pods), rounds))
				continue
			}
			for _, q := range []string{"p50", "p99"} {
				m.Add(name+", "+q, figures.NewPoint(float64(z.pods), measured[m.ID+"/"+q][z]))
			}
		}
		b.add(m)
	}
	return b.relabel(ctx)
}

// controlMeasures returns the measures, without points: of the start, which has one value per round, and of events,
// which have quantiles.
func controlMeasures(kinds []kindOfEvent) []figures.Measure {
	const x = "pods in the cluster"
	list := []figures.Measure{{ID: "control/start", Title: "Start", X: x,
		Y: "from synced source to rules in force", Unit: "ms"}}
	for _, k := range kinds {
		list = append(list, figures.Measure{ID: "control/" + k.id, Title: k.title, Note: k.note, X: x,
			Y: "from event to commit", Unit: "ms"})
	}
	return list
}

// controlRound measures one size once. It returns values by the id of their measure.
func (z size) controlRound(ctx context.Context, kinds []kindOfEvent, events int) (map[string]float64, error) {
	state := translate.New(nodeName, translate.Options{LogGroup: 86})
	if err := z.fill(state); err != nil {
		return nil, err
	}
	runtime.GC()
	results := make(map[string]float64)
	err := withLoop(ctx, state, func(l *runningLoop) error {
		took, err := l.start()
		if err != nil {
			return err
		}
		results["control/start"] = milliseconds(took)
		for _, k := range kinds {
			times, err := k.run(ctx, l, events)
			if err != nil {
				return fmt.Errorf("%s: %w", k.title, err)
			}
			results["control/"+k.id+"/p50"], results["control/"+k.id+"/p99"] = figures.Quantile(times, 0.5),
				figures.Quantile(times, 0.99)
		}
		return nil
	})
	return results, err
}

// relevant returns the numbers of some pods, of other nodes and of this one, without which the table would differ.
func (z size) relevant() (peers, local []int, err error) {
	const enough = 200
	s := translate.New(nodeName, translate.Options{LogGroup: 86})
	if err := z.fill(s); err != nil {
		return nil, nil, err
	}
	s.Complete().Take()
	matters := func(i int) bool {
		p, _, _ := policy.PodFrom(z.pod(i))
		s.DeletePod(p.NamespacedName)
		changes := s.Complete().Take() != nil
		s.SetPod(p)
		s.Complete().Take()
		return changes
	}
	for _, i := range z.localPods() {
		if matters(i) {
			local = append(local, i)
		}
	}
	random := rand.New(rand.NewPCG(1, uint64(z.pods)))
	for tries := 0; len(peers) < enough && tries < 100*enough; tries++ {
		if i := random.IntN(z.pods); !z.local(i) && matters(i) {
			peers = append(peers, i)
		}
	}
	return peers, local, nil
}

// kindOfEvent is a kind of change: two events, there and back.
type kindOfEvent struct {
	id, title, note string
	share           int // of the events: one in so many
	there, back     func(n int) func(watch.Objects)
}

// run makes events of the kind, one after another, and returns how long each took, in milliseconds.
func (k kindOfEvent) run(ctx context.Context, l *runningLoop, events int) ([]float64, error) {
	var times []float64
	for n := range events / 2 / k.share {
		for _, edit := range []func(watch.Objects){k.there(n), k.back(n)} {
			took, err := l.event(edit)
			if err := errors.Join(err, ctx.Err()); err != nil {
				return nil, err
			}
			times = append(times, milliseconds(took))
		}
	}
	return times, nil
}

// kinds are the kinds of events in a cluster, with pods that the table depends on.
func (z size) kinds() ([]kindOfEvent, error) {
	peers, locals, err := z.relevant()
	if err != nil {
		return nil, err
	}
	remove := func(name types.NamespacedName) func(watch.Objects) {
		return func(o watch.Objects) { o.DeletePod(name) }
	}
	set := func(p policy.Pod) func(watch.Objects) { return func(o watch.Objects) { o.SetPod(p) } }
	some := func(list []int) func(n int) policy.Pod {
		return func(n int) policy.Pod { p, _, _ := policy.PodFrom(z.pod(list[n%len(list)])); return p }
	}
	peer, local := some(peers), some(locals)
	return []kindOfEvent{
		{
			id: "pod", title: "Pod event", share: 1,
			note: "A pod of another node that a policy here allows comes or goes. Events of pods outside the " +
				"policies here change nothing in the kernel.",
			there: func(n int) func(watch.Objects) { return remove(peer(n).NamespacedName) },
			back:  func(n int) func(watch.Objects) { return set(peer(n)) },
		},
		{
			id: "kind", title: "Pod of a new kind", share: 4,
			note:  "As above, with labels that no other pod has, like the first pod of a new version of a Deployment.",
			there: func(n int) func(watch.Objects) { return set(z.novel(peer(n), n)) },
			back:  func(n int) func(watch.Objects) { return remove(z.novel(peer(n), n).NamespacedName) },
		},
		{
			id: "local", title: "Pod of the node", share: 4,
			note:  "A pod of this node, which policies isolate, comes or goes.",
			there: func(n int) func(watch.Objects) { return remove(local(n).NamespacedName) },
			back:  func(n int) func(watch.Objects) { return set(local(n)) },
		},
		{
			id: "policy", title: "Policy event", share: 4,
			note: "A policy that selects a pod of this node is created or deleted.",
			there: func(n int) func(watch.Objects) {
				np := z.extraPolicy(local(n))
				return func(o watch.Objects) { o.SetPolicy(np) }
			},
			back: func(n int) func(watch.Objects) {
				np := z.extraPolicy(local(n))
				return func(o watch.Objects) {
					o.DeletePolicy(types.NamespacedName{Namespace: np.Namespace, Name: np.Name})
				}
			},
		},
	}, nil
}

// novel is a new pod like p, except for a label.
func (z size) novel(p policy.Pod, n int) policy.Pod {
	p.Name += "-new"
	p.Labels = maps.Clone(p.Labels)
	p.Labels["pod-template-hash"] = fmt.Sprintf("new-%d", n)
	p.IPs = z.ips(z.pods + n)
	return p
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
