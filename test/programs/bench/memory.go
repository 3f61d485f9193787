// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/netpold/netpold/test/harness/cpu"
	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/translate"
)

// eventsPerSecond is the rate of the burst.
const eventsPerSecond = 500

// memory measures the program's size, its heap, the memory of the process and of the kernel, and its CPU time while
// events come.
func (b *bench) memory(ctx context.Context) error {
	mib, err := programSize(b.program)
	if err != nil {
		return err
	}
	binary := figures.Measure{ID: "memory/binary", Title: "Program", X: "",
		Y: "size of the static binary, stripped", Unit: "MiB"}
	binary.Add(seriesNetpold, figures.NewPoint(0, []float64{mib}))
	b.add(binary)
	if err := b.heap(); err != nil {
		return err
	}
	if err := b.daemons(ctx); err != nil {
		return err
	}
	return b.kernelMemory(ctx)
}

// heap measures what translate.State keeps of a pod and of a policy.
func (b *bench) heap() error {
	m := figures.Measure{
		ID: "memory/heap", Title: "Heap of the state", X: "", Y: "heap after a collection", Unit: "B",
		Note: "What translate.State keeps of an object, whether or not it concerns the node.",
	}
	z := size{100_000, 10_000}
	if b.quick {
		z = size{10_000, 1000}
	}
	fewPods, err := heapOf(size{pods: 1000})
	if err != nil {
		return err
	}
	withPods, err := heapOf(size{pods: z.pods})
	if err != nil {
		return err
	}
	withPolicies, err := heapOf(z)
	if err != nil {
		return err
	}
	for i, p := range []struct {
		label string
		bytes float64
	}{
		{"pod", (withPods - fewPods) / float64(z.pods-1000)},
		{"policy", (withPolicies - withPods) / float64(z.policies)},
	} {
		q := figures.NewPoint(float64(i), []float64{p.bytes})
		q.Label = p.label
		m.Add(fmt.Sprintf("of %s pods, %s policies", thousands(z.pods), thousands(z.policies)), q)
		b.progress("heap per %s: %.0f B", p.label, p.bytes)
	}
	b.add(m)
	return nil
}

// heapOf is the heap that the state of a cluster takes, with its table, in bytes.
func heapOf(z size) (float64, error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	s := translate.New(nodeName, translate.Options{LogGroup: 86})
	if err := z.fill(s); err != nil {
		return 0, err
	}
	s.Complete().Take()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(s)
	return float64(after.HeapAlloc) - float64(before.HeapAlloc), nil
}

// daemons measures the program as operators run it, with a stand-in for the API server.
func (b *bench) daemons(ctx context.Context) error {
	rounds, list := 3, sizes()
	if b.quick {
		rounds, list = 1, []size{{1000, 100}, {10_000, 1000}}
	}
	const x, series = "pods in the cluster", "%s policies"
	measures := []figures.Measure{
		{ID: "memory/rss", Title: "Memory of the process", X: x, Y: "resident after the events", Unit: "MiB"},
		{ID: "memory/peak", Title: "Memory of the process, peak", X: x, Y: "peak resident", Unit: "MiB"},
		{ID: "memory/cpu", Title: fmt.Sprintf("CPU at %d pod events a second", eventsPerSecond), X: x,
			Y: "of a core", Unit: "%",
			Note: "Random pods of the whole cluster are deleted and created again; the program receives and " +
				"decodes them from the API server."},
		{ID: "memory/cpu/heartbeats", Title: fmt.Sprintf("CPU at %d irrelevant pod updates a second",
			eventsPerSecond), X: x, Y: "of a core", Unit: "%",
			Note: "Only the status of pods changes, so the program only receives and decodes them."},
	}
	values := make([]map[size][]float64, len(measures))
	for range rounds {
		for _, z := range list {
			got, err := b.daemon(ctx, z)
			if err != nil {
				return fmt.Errorf("%s: %w", z, err)
			}
			for i, v := range got {
				if values[i] == nil {
					values[i] = make(map[size][]float64)
				}
				values[i][z] = append(values[i][z], v)
			}
			b.progress("daemon, %s: RSS %.0f MiB, peak %.0f, CPU %.1f and %.1f %%", z, got[0], got[1], got[2], got[3])
		}
	}
	for i, m := range measures {
		for _, z := range list {
			m.Add(fmt.Sprintf(series, thousands(z.policies)), figures.NewPoint(float64(z.pods), values[i][z]))
		}
		b.add(m)
	}
	return nil
}

// daemon runs the program once, and returns the values for daemons' measures.
func (b *bench) daemon(ctx context.Context, z size) ([4]float64, error) {
	var got [4]float64
	folder, err := os.MkdirTemp("", "netpold-bench-")
	if err != nil {
		return got, err
	}
	defer os.RemoveAll(folder) //nolint:errcheck // nothing to be done about it
	server := z.serve()
	defer server.Close()
	kubeconfig, err := server.Kubeconfig(folder)
	if err != nil {
		return got, err
	}
	d, err := startDaemon(ctx, b.program, kubeconfig)
	if err != nil {
		return got, err
	}
	random := rand.New(rand.NewPCG(1, 1))
	pod := func() *corev1.Pod { return z.pod(random.IntN(z.pods)) }
	changes, err1 := b.burst(ctx, d, func() [2]func() {
		p := pod()
		return [2]func(){
			func() { server.Send(watch.Deleted, p) },
			func() { server.Send(watch.Added, p) },
		}
	})
	heartbeat := func() {
		p := pod()
		p.Status.Conditions[0].LastTransitionTime = metav1.Now()
		server.Send(watch.Modified, p)
	}
	heartbeats, err2 := b.burst(ctx, d, func() [2]func() { return [2]func(){heartbeat, heartbeat} })
	rss, err3 := d.memory("VmRSS")
	peak, err4 := d.memory("VmHWM")
	return [4]float64{rss, peak, changes, heartbeats}, errors.Join(err1, err2, err3, err4, d.stop())
}

// burst makes events for a while, two at a time, and returns the daemon's CPU time for them, in percent of a core.
func (b *bench) burst(ctx context.Context, d *daemon, next func() [2]func()) (float64, error) {
	length := 5 * time.Second
	if b.quick {
		length = 2 * time.Second
	}
	before, err := cpu.Process(d.cmd.Process.Pid)
	if err != nil {
		return 0, err
	}
	begin := time.Now()
	for n := time.Duration(0); time.Since(begin) < length && ctx.Err() == nil; {
		for _, event := range next() {
			event()
			n++
			time.Sleep(time.Until(begin.Add(n * time.Second / eventsPerSecond)))
		}
	}
	took := time.Since(begin)
	after, err := cpu.Process(d.cmd.Process.Pid)
	return 100 * float64(after-before) / float64(took), err
}
