// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/cgroup"
	"github.com/netpold/netpold/test/harness/figures"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// tableMemory is what a separate process measures of a table.
type tableMemory struct {
	MiB      float64 // of kernel memory
	Elements int
	Shared   int // sets of whole namespaces
}

// kernelMemory measures the kernel memory of tables. Each table is made by its own process in a memory cgroup, to which
// the kernel charges it, as for a daemon.
func (b *bench) kernelMemory(ctx context.Context) error {
	m := figures.Measure{
		ID: "memory/kernel", Title: "Kernel memory of the table", X: "pods in the cluster",
		Y: "charged to the memory cgroup", Unit: "MiB",
		Note: "This leaves out the buckets of hash sets, 8 bytes each and at most about three per element, which are " +
			"not charged to cgroups.",
	}
	rounds, list := 3, sizes()
	if b.quick {
		rounds, list = 1, []size{{1000, 100}, {10_000, 1000}}
	}
	group, err := cgroup.New()
	if err != nil { // an ordinary user may make none
		b.progress("the kernel's memory is not measured: %v", err)
		return nil
	}
	if err := group.Remove(); err != nil {
		return err
	}
	for _, z := range list {
		values, _, err := b.tableMemory(ctx, rounds, fmt.Sprintf("%d/%d", z.pods, z.policies))
		if err != nil {
			return err
		}
		m.Add(thousands(z.policies)+" policies", figures.NewPoint(float64(z.pods), values))
	}
	b.progress("kernel memory: %s", summary(&m, 0))
	b.add(m)

	shared := figures.Measure{
		ID: "memory/shared", Title: "30 isolations that allow every namespace", X: "",
		Y: "charged to the memory cgroup", Unit: "MiB",
		Note: "Thirty pods of the node each have a policy with namespaceSelector: {}, in a cluster of 150,000 pods.",
	}
	sets := figures.Measure{ID: "memory/shared/sets", Title: shared.Title + ": sets", X: "",
		Y: "sets of whole namespaces", Unit: "1"}
	values, last, err := b.tableMemory(ctx, rounds, everyNamespace)
	if err != nil {
		return err
	}
	shared.Add("MiB", figures.NewPoint(0, values))
	sets.Add("sets", figures.NewPoint(0, []float64{float64(last.Shared)}))
	b.progress("30 isolations, every namespace: %s; %d sets, %d elements", summary(&shared, 0),
		last.Shared, last.Elements)
	b.add(shared)
	b.add(sets)
	return nil
}

// everyNamespace asks for the table of the thirty isolations.
const everyNamespace = "every-namespace"

// tableMemory measures one table several times, each time in a new process.
func (b *bench) tableMemory(ctx context.Context, rounds int, what string) (mib []float64, last tableMemory, err error) {
	for range rounds {
		group, err := cgroup.New()
		if err != nil {
			return nil, last, err
		}
		cmd := exec.CommandContext(ctx, "/proc/self/exe", "-table-memory", what, "-cgroup", group.Folder)
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		if err == nil {
			err = json.Unmarshal(out, &last)
		}
		if err = errors.Join(err, group.Remove()); err != nil {
			return nil, last, fmt.Errorf("kernel memory of %s: %w", what, err)
		}
		mib = append(mib, last.MiB)
	}
	return mib, last, nil
}

// printTableMemory is that process.
func printTableMemory(ctx context.Context, what, folder string) error {
	group, err := cgroup.Open(folder)
	if err == nil {
		err = group.Enter()
	}
	if err != nil {
		return err
	}
	state := translate.New(nodeName, translate.Options{LogGroup: 86})
	if what == everyNamespace {
		err = fillEveryNamespace(state)
	} else {
		var z size
		if _, err = fmt.Sscanf(what, "%d/%d", &z.pods, &z.policies); err == nil {
			err = z.fill(state)
		}
	}
	if err != nil {
		return err
	}
	return thread(func() error {
		result, err := measureTable(ctx, group, state.Complete())
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(result)
	})
}

// fillEveryNamespace makes 30 local pods, each with a policy that allows all namespaces.
func fillEveryNamespace(s *translate.State) error {
	z := size{150_000, 0}
	if err := z.fill(s); err != nil {
		return err
	}
	for _, i := range z.localPods()[:30] {
		p, _, err := policy.PodFrom(z.pod(i))
		if err != nil {
			return err
		}
		np := z.extraPolicy(p)
		np.Spec.Ingress[0].From = everyPod()
		if err := s.SetPolicy(np); err != nil {
			return err
		}
	}
	return nil
}

// measureTable commits a table and deletes it, and returns what it took in between.
func measureTable(ctx context.Context, group *cgroup.Group, table *nft.Table) (tableMemory, error) {
	var result tableMemory
	space, err := netns.New()
	if err != nil {
		return result, err
	}
	defer closeQuietly(space)
	conn, err := kernel.Open(kernel.Config{Own: true})
	if err != nil {
		return result, err
	}
	defer closeQuietly(conn)
	if _, err := conn.Apply(ctx, table.Take()); err != nil {
		return result, err
	}
	with, err := settled(group)
	if err != nil {
		return result, err
	}
	without, err := 0.0, conn.DeleteTable(ctx, table.Name)
	if err == nil {
		without, err = settled(group)
	}
	for _, s := range table.Sets() {
		result.Elements += s.Len()
		if strings.HasPrefix(s.Name, "namespaces-") && s.Len() > 0 {
			result.Shared++
		}
	}
	result.MiB = (with - without) / (1 << 20)
	return result, errors.Join(err, ctx.Err())
}

// settled is the kernel memory of the cgroup once it has stopped changing: the kernel frees what a transaction needed a
// little later.
func settled(g *cgroup.Group) (float64, error) {
	const still, near = 5, 16 << 10 // readings, and bytes between them
	last, same := -1.0, 0
	for range 200 {
		charged, err := g.Kernel()
		if err != nil {
			return 0, err
		}
		now := float64(charged)
		if same++; now < last-near || now > last+near {
			last, same = now, 0
		}
		if same == still {
			return now, nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return 0, errors.New("the kernel memory does not stop changing")
}
