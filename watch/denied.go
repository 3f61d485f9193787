// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"io/fs"
	"strings"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
)

// denied are the packets that the table denied, as totals that only grow: the counts of the elements that the kernel holds, and the last
// ones of those that it held. The loop's kernelMu guards it.
type denied struct {
	gone map[deniedBy]uint64       // of elements that are deleted
	held map[deniedPod]deniedCount // as last read
}

// deniedBy is what totals are told apart by.
type deniedBy struct {
	direction translate.Direction
	namespace string
}

// deniedPod is an element of a set that counts.
type deniedPod struct {
	table, set string
	key        nft.Key
}

// deniedCount is what an element has counted, and for whom.
type deniedCount struct {
	by      deniedBy
	packets uint64
}

func newDenied() denied {
	return denied{gone: make(map[deniedBy]uint64), held: make(map[deniedPod]deniedCount)}
}

// countOf returns what an element of a set has counted. Its comment is the pod, as namespace/name.
func countOf(set translate.DeniedSet, e nft.Counted) deniedCount {
	namespace, _, _ := strings.Cut(e.Comment, "/")
	return deniedCount{deniedBy{set.Direction, namespace}, e.Packets}
}

// leave adds the last count of an element to the totals. Most are zero, and must not be remembered: nobody may ever ask for the totals, which
// is when namespaces that are gone are forgotten.
func (d *denied) leave(count deniedCount) {
	if count.packets > 0 {
		count.by.namespace = strings.Clone(count.by.namespace) // not the whole comment
		d.gone[count.by] += count.packets
	}
}

// deleted takes the last counts of elements that a transaction deleted.
func (d *denied) deleted(table string, elements map[string][]nft.Counted) {
	if len(elements) == 0 { // of nearly all transactions
		return
	}
	for _, set := range translate.DeniedSets() {
		for _, e := range elements[set.Name] {
			count := countOf(set, e)
			d.leave(count)
			delete(d.held, deniedPod{table, set.Name, e.Key})
		}
	}
}

// retired takes the last counts of a table that nothing counts in any more. What cannot be read, because somebody else deleted the
// table, is as it was when it was last read.
func (d *denied) retired(ctx context.Context, kernel Kernel, table string) {
	_ = d.read(ctx, kernel, table)
	for pod, count := range d.held {
		if pod.table == table {
			d.leave(count)
			delete(d.held, pod)
		}
	}
}

// read brings the counts of a table up to date.
func (d *denied) read(ctx context.Context, kernel Kernel, table string) error {
	var errs []error
	for _, set := range translate.DeniedSets() {
		elements, err := kernel.Elements(ctx, table, set.Name, set.Type)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range elements {
			d.held[deniedPod{table, set.Name, e.Key}] = countOf(set, e)
		}
	}
	return errors.Join(errs...)
}

// totals returns the sums of the namespaces that are known.
func (d *denied) totals(known func(namespace string) bool) map[deniedBy]uint64 {
	sums := make(map[deniedBy]uint64)
	for by, packets := range d.gone {
		if known(by.namespace) {
			sums[by] += packets
		} else {
			delete(d.gone, by) // else the namespaces of years would gather
		}
	}
	for _, count := range d.held {
		sums[count.by] += count.packets
	}
	return sums
}

// Denied returns how many packets the table has denied since the loop began, by direction and by namespace of the isolated pod: those
// that have reached the kernel's counters by now. An error says that they are not of now; the totals are those of the last time.
func (l *Loop) Denied(ctx context.Context) (map[translate.Direction]map[string]uint64, error) {
	l.kernelMu.Lock()
	defer l.kernelMu.Unlock()
	var err error
	if l.built[translate.TableName] { // else it is a previous process's
		err = l.denied.read(ctx, l.Kernel, translate.TableName)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	totals := make(map[translate.Direction]map[string]uint64)
	for _, d := range translate.Directions() {
		totals[d] = make(map[string]uint64)
	}
	for by, packets := range l.denied.totals(l.State.HasNamespace) {
		totals[by.direction][by.namespace] = packets
	}
	return totals, err
}
