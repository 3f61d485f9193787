// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// BenchmarkGate measures how long a new pod waits at the gate, from the runtime's call until the kernel has the pod.
// The node has 100 pods, the cluster 10,000 pods and 10,000 policies; the new pods are copies of the node's own.
func BenchmarkGate(b *testing.B) {
	for _, n := range []int{1, 20} {
		b.Run(fmt.Sprintf("%d-at-once", n), func(b *testing.B) {
			z := size{10_000, 10_000}
			state := translate.New(nodeName, translate.Options{LogGroup: 86})
			if err := z.fill(state); err != nil {
				b.Fatal(err)
			}
			err := withLoop(b.Context(), state, func(l *runningLoop) error {
				if _, err := l.start(); err != nil {
					return err
				}
				var times []float64
				for round := 0; b.Loop(); round++ {
					b.StopTimer()
					took, err := z.admit(b.Context(), l, round*n, n)
					if err != nil {
						return err
					}
					times = append(times, took...)
					b.StartTimer()
				}
				b.ReportMetric(figures.Quantile(times, 0.5), "p50-ms")
				b.ReportMetric(figures.Quantile(times, 0.99), "p99-ms")
				b.ReportMetric(0, "ns/op") // of the set-up, too
				return nil
			})
			if err != nil {
				b.Fatal(err)
			}
		})
	}
}

// admit admits new pods, all at once, and returns how many milliseconds each waited. They are gone afterwards.
func (z size) admit(ctx context.Context, l *runningLoop, first, n int) ([]float64, error) {
	local := z.localPods()
	sandboxes, times := make([]policy.Sandbox, n), make([]float64, n)
	for i := range sandboxes {
		p, _, err := policy.PodFrom(z.pod(local[(first+i)%len(local)]))
		if err != nil {
			return nil, err
		}
		p.Name, p.IPs = fmt.Sprintf("new-%d", first+i), nil
		l.Update(func(objects watch.Objects) { objects.SetPod(p) })
		sandboxes[i] = policy.Sandbox{ID: p.Name, NamespacedName: p.NamespacedName, Node: nodeName, Labels: p.Labels,
			IPs: z.ips(z.pods + i), Serial: uint64(first + i + 1)}
	}
	var group errgroup.Group
	for i, s := range sandboxes {
		group.Go(func() error {
			begin := time.Now()
			_, err := l.Admit(ctx, s)
			times[i] = milliseconds(time.Since(begin))
			return err
		})
	}
	err := group.Wait()
	for _, s := range sandboxes {
		l.Release(s.ID)
		l.Update(func(objects watch.Objects) { objects.DeletePod(s.NamespacedName) })
	}
	time.Sleep(20 * time.Millisecond) // until they are gone from the kernel, more or less
	l.settle()
	return times, err
}
