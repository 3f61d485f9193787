// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// denied are the packets that the table denied, as totals that only grow: the counts of the elements that the kernel
// holds, and the last ones of those that it held. The kernel is read beside the loop's transactions, so what a
// transaction deletes while it is read must not be counted twice.
type denied struct {
	reading chan struct{} // capacity 1: full while the kernel is read for somebody; no old read overtakes a new one

	mu      sync.Mutex                // guards the fields below
	gone    map[deniedBy]uint64       // of elements that are deleted
	held    map[deniedPod]deniedCount // as last read
	tables  map[string]int            // of this process that count, by name, with a number that no other table has
	last    int                       // the number of the newest
	leaving map[deniedPod]struct{}    // what the transaction in flight deletes; after one that failed, what it may have
	left    map[deniedPod]struct{}    // what has been leaving since the read that goes on began; nil without one
	asOf    time.Time                 // when the totals were all of that time
}

// deniedBy is what totals are told apart by.
type deniedBy struct {
	direction policy.Direction
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

func newDenied() *denied {
	return &denied{
		reading: make(chan struct{}, 1),
		gone:    make(map[deniedBy]uint64),
		held:    make(map[deniedPod]deniedCount),
		tables:  make(map[string]int),
		leaving: make(map[deniedPod]struct{}),
	}
}

// countOf returns what an element of a set has counted. Its comment is the pod, as namespace/name.
func countOf(set translate.DeniedSet, e nft.Counted) deniedCount {
	namespace, _, _ := strings.Cut(e.Comment, "/")
	return deniedCount{deniedBy{set.Direction, namespace}, e.Packets}
}

// leave adds the last count of an element to the totals. Most are zero, and must not be remembered: nobody may ever ask
// for the totals, which is when namespaces that are gone are forgotten.
func (d *denied) leave(count deniedCount) {
	if count.packets > 0 {
		count.by.namespace = strings.Clone(count.by.namespace) // not the whole comment
		d.gone[count.by] += count.packets
	}
}

// count takes what an element has counted. A smaller count than before is another element's, of the same key.
func (d *denied) count(pod deniedPod, count deniedCount) {
	if before, ok := d.held[pod]; ok && count.packets < before.packets {
		d.leave(before)
	}
	d.held[pod] = count
}

// begin notes what a transaction will delete, before it does.
func (d *denied) begin(tx *nft.Transaction) {
	for _, op := range tx.Ops {
		if op.Verb != nft.DeleteElements || !op.Set.Type.Counter {
			continue
		}
		d.mu.Lock()
		for _, e := range op.Elements {
			pod := deniedPod{tx.Table, op.Set.Name, e.Key}
			d.leaving[pod] = struct{}{}
			if d.left != nil {
				d.left[pod] = struct{}{}
			}
		}
		d.mu.Unlock()
	}
}

// end takes the last counts of elements that a transaction deleted. After one that failed it is not known which others
// are gone: they are not read again until the table is retired.
func (d *denied) end(table string, result nft.Result, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(result.Deleted) == 0 && len(d.leaving) == 0 { // of nearly all transactions
		return
	}
	for _, set := range translate.DeniedSets() {
		for _, e := range result.Deleted[set.Name] {
			d.leave(countOf(set, e))
			delete(d.held, deniedPod{table, set.Name, e.Key})
		}
	}
	if err == nil {
		clear(d.leaving)
	}
}

// made notes that a table of this process counts from now on.
func (d *denied) made(table string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	d.tables[table] = d.last
}

// counts says whether a table counts.
func (d *denied) counts(table string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tables[table] != 0
}

// lastRead bounds the last read of a table, whose replacement waits for it.
const lastRead = 100 * time.Millisecond

// retired takes the last counts of a table that nothing counts in any more. What cannot be read, because somebody else
// deleted the table, is as it was when it was last read.
func (d *denied) retired(ctx context.Context, reads Reads, table string) {
	ctx, cancel := context.WithTimeout(ctx, lastRead)
	defer cancel()
	counts, _ := readDenied(ctx, reads, table)
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.tables, table)
	for pod, count := range counts {
		d.count(pod, count)
	}
	for pod, count := range d.held {
		if pod.table == table {
			d.leave(count)
			delete(d.held, pod)
		}
	}
	maps.DeleteFunc(d.leaving, func(pod deniedPod, _ struct{}) bool { return pod.table == table })
}

// readDenied reads the counts of a table, as far as it can.
func readDenied(ctx context.Context, reads Reads, table string) (map[deniedPod]deniedCount, error) {
	counts := make(map[deniedPod]deniedCount)
	var errs []error
	for _, set := range translate.DeniedSets() {
		elements, err := reads.Elements(ctx, table, set.Name, set.Type)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range elements {
			counts[deniedPod{table, set.Name, e.Key}] = countOf(set, e)
		}
	}
	return counts, errors.Join(errs...)
}

// errLeaving says that what a transaction deletes could not be read.
var errLeaving = errors.New("a transaction deletes elements, whose counts are not known before its end")

// read brings the totals up to date.
func (d *denied) read(ctx context.Context, reads Reads) error {
	select {
	case d.reading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.reading }()
	began := time.Now()
	d.mu.Lock()
	tables := maps.Clone(d.tables)
	d.left = maps.Clone(d.leaving)
	d.mu.Unlock()
	var errs []error
	for table, number := range tables {
		counts, err := readDenied(ctx, reads, table)
		errs = append(errs, err, d.merge(table, number, counts))
	}
	err := errors.Join(errs...)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left = nil
	if err == nil {
		d.asOf = began
	}
	return err
}

// merge takes what was read of a table that had that number. If it was retired meanwhile, its last counts are known
// already.
func (d *denied) merge(table string, number int, counts map[deniedPod]deniedCount) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.tables[table] != number {
		return nil
	}
	var err error
	for pod, count := range counts {
		if _, left := d.left[pod]; !left {
			d.count(pod, count)
		} else if _, leaving := d.leaving[pod]; leaving {
			err = errLeaving
		}
	}
	return err
}

// totals returns the sums of the namespaces that are known.
func (d *denied) totals(known func(namespace string) bool) map[deniedBy]uint64 {
	d.mu.Lock()
	defer d.mu.Unlock()
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

// time returns when the totals were all of that time.
func (d *denied) time() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asOf
}

// Denied returns how many packets the table has denied since the loop began, by direction and by namespace of the
// isolated pod: those that have reached the kernel's counters by now. It waits for no transaction. An error says that
// the totals are not of now; they are those of the last time then.
func (l *Loop) Denied(ctx context.Context) (map[policy.Direction]map[string]uint64, error) {
	err := l.denied.read(ctx, l.config.Reads)
	return l.lastDenied(), err
}

// lastDenied returns the totals of the last time.
func (l *Loop) lastDenied() map[policy.Direction]map[string]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	totals := make(map[policy.Direction]map[string]uint64)
	for _, d := range policy.Directions() {
		totals[d] = make(map[string]uint64)
	}
	for by, packets := range l.denied.totals(l.state.HasNamespace) {
		totals[by.direction][by.namespace] = packets
	}
	return totals
}
