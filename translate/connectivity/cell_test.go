// SPDX-License-Identifier: Apache-2.0

package connectivity_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// TestCells compares what is open between workloads with Explain for every pair of their pods, and merged connections
// with the cells.
func TestCells(t *testing.T) {
	cells, mixed, reaches := 0, 0, 0
	forSeeds(t, func(seed uint64) error {
		if seed%32 == 31 { // with hundreds of pods every pair would take minutes
			return nil
		}
		w := newWorld(seed)
		if err := w.checkConnections(); err != nil {
			return err
		}
		pods := w.byWorkload()
		for i, from := range w.matrix.Workloads {
			for j, to := range w.matrix.Workloads {
				cell := w.matrix.Cell(i, j)
				if err := w.checkCell(cell, pods[from], pods[to]); err != nil {
					return fmt.Errorf("%v -> %v: %w", from, to, err)
				}
				if cells++; !cell.Every.Equal(cell.Some) {
					mixed++
				}
			}
			for _, d := range policy.Directions() {
				n, err := w.checkOutside(d, i, pods[from])
				if err != nil {
					return fmt.Errorf("%s of %v: %w", d, from, err)
				}
				reaches += n
			}
		}
		return nil
	})
	t.Logf("%d cells, of which the pods differ in %d; %d answers about addresses outside", cells, mixed, reaches)
	if mixed == 0 {
		t.Error("no cell in which pods differ")
	}
}

// byWorkload returns the addresses that each workload's pods own.
func (w *world) byWorkload() map[connectivity.Workload][]netip.Addr {
	all := make(map[connectivity.Workload][]netip.Addr)
	add := func(p *policy.Pod, a netip.Addr) {
		if of := connectivity.WorkloadOf(p); !slices.Contains(all[of], a) {
			all[of] = append(all[of], a)
		}
	}
	for i := range w.cluster.Pods {
		p := &w.cluster.Pods[i]
		for _, a := range p.IPs {
			owner := w.cluster.Explain(policy.Flow{Src: a, Dst: a}).Egress.Pod
			if owner == nil || !p.HostNetwork && owner.NamespacedName == p.NamespacedName {
				add(p, a)
			}
		}
	}
	return all
}

// decide returns whether the policies allow a service between every pair of the addresses, and between some pair, and
// false if they have no pair.
func (w *world) decide(f policy.Flow, from, to []netip.Addr) (every, some, ok bool) {
	every = true
	for _, f.Src = range from {
		for _, f.Dst = range to {
			if f.Src == f.Dst || family(f.Src) != family(f.Dst) {
				continue
			}
			allowed := w.cluster.Explain(f).Allowed
			every, some, ok = every && allowed, some || allowed, true
		}
	}
	return every, some, ok
}

// checkCell: a cell is the intersection and the union of what Explain says about every pair.
func (w *world) checkCell(cell connectivity.Cell, from, to []netip.Addr) error {
	for _, f := range w.services[:min(8, len(w.services))] {
		every, some, ok := w.decide(f, from, to)
		if !ok {
			continue
		}
		if got := cell.Every.Contains(f.Proto, f.DstPort); got != every {
			return fmt.Errorf("%s: every pair: %t, and the cell says %s", f, every, cell)
		}
		if got := cell.Some.Contains(f.Proto, f.DstPort); got != some {
			return fmt.Errorf("%s: some pair: %t, and the cell says %s", f, some, cell)
		}
	}
	return nil
}

// checkOutside: what a workload may open to outside addresses, or they to it, is what Explain says.
func (w *world) checkOutside(d policy.Direction, workload int, pods []netip.Addr) (checked int, err error) {
	reaches := w.matrix.Outside(d, workload)
	for _, outside := range w.outside {
		for _, peer := range outside[:min(len(outside), 12)] {
			from, to := pods, []netip.Addr{peer}
			if d == policy.Ingress {
				from, to = to, from
			}
			for _, f := range w.services[:4] {
				every, some, ok := w.decide(f, from, to)
				if !ok {
					continue
				}
				checked++
				var cell connectivity.Cell
				for _, r := range reaches {
					if r.Networks.Contains(peer) {
						cell = r.Cell
					}
				}
				if cell.Every.Contains(f.Proto, f.DstPort) != every || cell.Some.Contains(f.Proto, f.DstPort) != some {
					return checked, fmt.Errorf("%s: every %t, some %t, and open is %s", f, every, some, cell)
				}
			}
		}
	}
	return checked, nil
}

// checkConnections: each pair of workloads is in exactly the connection that says what its cell says, or in none.
func (w *world) checkConnections() error {
	cells := make(map[[2]int]connectivity.Cell)
	for _, c := range w.matrix.Connections() {
		for _, from := range c.From.Workloads {
			for _, to := range c.To.Workloads {
				if _, twice := cells[[2]int{from, to}]; twice {
					return fmt.Errorf("%d -> %d twice", from, to)
				}
				cells[[2]int{from, to}] = c.Cell
			}
		}
	}
	for i := range w.matrix.Workloads {
		for j := range w.matrix.Workloads {
			want, got := w.matrix.Cell(i, j), cells[[2]int{i, j}]
			if !got.Every.Equal(want.Every) || !got.Some.Equal(want.Some) {
				return fmt.Errorf("%d -> %d: %s, and the cell is %s", i, j, got, want)
			}
		}
	}
	return nil
}
