// SPDX-License-Identifier: Apache-2.0

// Package denied counts the packets that a node's tables deny, from the counters of the kernel's elements and the last
// counts of deleted ones.
package denied

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// Reads reads sets and rules with counters.
type Reads interface {
	// Elements returns the elements of a set with their counts, or those read before an error; fs.ErrNotExist if there
	// is no such set.
	Elements(ctx context.Context, table, set string, t nft.SetType) ([]nft.Counted, error)
	// ChainCount returns the sum of a chain's rule counters, in packets; fs.ErrNotExist if there is no such chain.
	ChainCount(ctx context.Context, table, chain string) (uint64, error)
}

// Counter has totals that only grow. The kernel is read concurrently with the loop's transactions, so what a
// transaction deletes during a read must not count twice. The loop calls Begin, End, Made and Retired; anybody may call
// the other methods.
type Counter struct {
	reading chan struct{} // capacity 1: full during a read, so that no old read overtakes a new one

	mu      sync.Mutex           // guards the fields below
	gone    map[By]uint64        // from deleted elements
	held    map[element]tally    // as last read
	tables  map[string]counting  // of this process, by name
	last    int                  // the number of the newest
	leaving map[element]struct{} // what the transaction in flight deletes; after a failed one, what it may have deleted
	left    map[element]struct{} // what has been leaving since the current read began; nil without one
	asOf    time.Time            // when all totals were last current
}

// counting is a table that counts: its unique number, and its chains for rules that deny.
type counting struct {
	number int
	chains map[string]struct{}
}

// By is the key of a total.
type By struct {
	Direction policy.Direction
	Namespace string // of the isolated pod; "" for the guard's drops, unless Rule is set
	Tier      string // see [frame.DeniedSet]
	Audit     bool   // not denied, but would be if audited policies were enforced

	// Rule is the chain of a ClusterNetworkPolicy's rule; then nothing else is set. Its packets are counted by
	// namespace as well.
	Rule string
}

// element is an element of a counting set or, without a key, a counting chain.
type element struct {
	table, set string
	key        nft.Key
}

// tally is an element's count, and the total it belongs to.
type tally struct {
	by      By
	packets uint64
}

// New returns a counter without tables.
func New() *Counter {
	return &Counter{
		reading: make(chan struct{}, 1),
		gone:    make(map[By]uint64),
		held:    make(map[element]tally),
		tables:  make(map[string]counting),
		leaving: make(map[element]struct{}),
	}
}

// countOf returns what an element of a set has counted. Its comment is the pod, as namespace/name.
func countOf(set frame.DeniedSet, e nft.Counted) tally {
	namespace, _, _ := strings.Cut(e.Comment, "/")
	return tally{By{Direction: set.Direction, Namespace: namespace, Tier: set.Tier, Audit: set.Audit}, e.Packets}
}

// leave adds the last count of an element to the totals. Zeros, which most are, must not be stored: namespaces that are
// gone are forgotten only when somebody asks for the totals, which may be never.
func (c *Counter) leave(count tally) {
	if count.packets > 0 {
		count.by.Namespace = strings.Clone(count.by.Namespace) // not the whole comment
		c.gone[count.by] += count.packets
	}
}

// count takes an element's count. A smaller count than before means another element with the same key.
func (c *Counter) count(pod element, count tally) {
	if before, ok := c.held[pod]; ok && count.packets < before.packets {
		c.leave(before)
	}
	c.held[pod] = count
}

// Begin notes what a transaction is about to delete. It reads the last counts of chains, which packets have not reached
// for some time.
func (c *Counter) Begin(ctx context.Context, reads Reads, tx *nft.Transaction) {
	var all []element
	var chains []string
	for _, op := range tx.Ops {
		switch {
		case op.Verb == nft.DeleteElements && op.Set.Type.Counter:
			for _, e := range op.Elements {
				all = append(all, element{tx.Table, op.Set.Name, e.Key})
			}
		case op.Verb == nft.DeleteChain && isRule(op.Chain.Name):
			all = append(all, element{table: tx.Table, set: op.Chain.Name})
			chains = append(chains, op.Chain.Name)
		}
	}
	if len(all) == 0 {
		return
	}
	var last map[element]tally
	if len(chains) > 0 {
		ctx, cancel := context.WithTimeout(ctx, lastRead)
		defer cancel()
		last, _ = readChains(ctx, reads, tx.Table, chains) // otherwise the last read counts
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range all {
		c.leaving[e] = struct{}{}
		if c.left != nil {
			c.left[e] = struct{}{}
		}
		if count, ok := last[e]; ok {
			c.count(e, count)
		}
	}
}

// End takes the last counts of elements and chains that a transaction deleted. After a failed one, which others are
// gone is unknown: they are not read again until the table is retired.
func (c *Counter) End(tx *nft.Transaction, result nft.Result, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(result.Deleted) > 0 { // few transactions have any
		c.leaveElements(tx.Table, result)
	}
	if err != nil {
		return
	}
	for e := range c.leaving {
		if e.key == (nft.Key{}) && isRule(e.set) {
			c.leave(c.held[e])
			delete(c.held, e)
			delete(c.tables[tx.Table].chains, e.set)
		}
	}
	clear(c.leaving)
	c.addChains(tx)
}

// leaveElements takes the last counts of elements that a transaction deleted.
func (c *Counter) leaveElements(table string, result nft.Result) {
	for _, set := range frame.CountingSets() {
		for _, e := range result.Deleted[set.Name] {
			c.leave(countOf(set, e))
			delete(c.held, element{table, set.Name, e.Key})
		}
	}
}

// isRule says whether a chain belongs to a ClusterNetworkPolicy's rule that denies.
func isRule(chain string) bool {
	if !strings.Contains(chain, "rule-") { // true of nearly all
		return false
	}
	rule, ok := frame.ParseTierRule(chain)
	return ok && !rule.Tier.Audit()
}

// addChains adds the chains that a transaction made for rules that deny.
func (c *Counter) addChains(tx *nft.Transaction) {
	chains := c.tables[tx.Table].chains
	for i := 0; chains != nil && i < len(tx.Ops); i++ {
		if op := tx.Ops[i]; op.Verb == nft.AddChain && isRule(op.Chain.Name) {
			chains[op.Chain.Name] = struct{}{}
		}
	}
}

// Made notes that the table that a transaction made counts from now on.
func (c *Counter) Made(tx *nft.Transaction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.tables[tx.Table] = counting{c.last, make(map[string]struct{})}
	c.addChains(tx)
}

// lastRead bounds the last read of a table, whose replacement waits for it.
const lastRead = 100 * time.Millisecond

// Retired takes the final counts of a table that packets no longer reach, unless it is a previous process's. If
// somebody else has deleted the table, the last read counts stand.
func (c *Counter) Retired(ctx context.Context, reads Reads, table string) {
	chains, counts := c.chainsOf(table)
	if !counts {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastRead)
	defer cancel()
	last, _ := readDenied(ctx, reads, table, chains)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.tables, table)
	for pod, count := range last {
		c.count(pod, count)
	}
	for pod, count := range c.held {
		if pod.table == table {
			c.leave(count)
			delete(c.held, pod)
		}
	}
	maps.DeleteFunc(c.leaving, func(pod element, _ struct{}) bool { return pod.table == table })
}

// chainsOf returns a table's chains for rules that deny, and whether the table counts.
func (c *Counter) chainsOf(table string) (chains []string, counts bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	of, counts := c.tables[table]
	return slices.Collect(maps.Keys(of.chains)), counts
}

// readChains reads the counts of a table's chains, as far as it can. Each takes some 20 µs; dumping all rules at once
// would not be faster, as most do not count.
func readChains(ctx context.Context, reads Reads, table string, chains []string) (map[element]tally, error) {
	counts := make(map[element]tally)
	for _, chain := range chains {
		n, err := reads.ChainCount(ctx, table, chain)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return counts, err
		}
		counts[element{table: table, set: chain}] = tally{By{Rule: chain}, n}
	}
	return counts, nil
}

// readDenied reads the counts of a table with these chains, as far as it can.
func readDenied(ctx context.Context, reads Reads, table string, chains []string) (map[element]tally, error) {
	counts, chainErr := readChains(ctx, reads, table, chains)
	errs := []error{chainErr}
	for _, set := range frame.CountingSets() {
		elements, err := reads.Elements(ctx, table, set.Name, set.Type)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		for _, e := range elements {
			counts[element{table, set.Name, e.Key}] = countOf(set, e)
		}
	}
	return counts, errors.Join(errs...)
}

// errLeaving says that a transaction in flight hides some counts.
var errLeaving = errors.New("a transaction in flight deletes elements; their counts are not known until it ends")

// Read brings the totals up to date.
func (c *Counter) Read(ctx context.Context, reads Reads) error {
	select {
	case c.reading <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-c.reading }()
	began := time.Now()
	c.mu.Lock()
	tables := maps.Clone(c.tables)
	c.left = maps.Clone(c.leaving)
	c.mu.Unlock()
	var errs []error
	for table, is := range tables {
		chains, _ := c.chainsOf(table)
		counts, err := readDenied(ctx, reads, table, chains)
		errs = append(errs, err, c.merge(table, is.number, counts))
	}
	err := errors.Join(errs...)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.left = nil
	if err == nil {
		c.asOf = began
	}
	return err
}

// merge takes what was read from the table with that number. If it was retired meanwhile, its final counts are known
// already.
func (c *Counter) merge(table string, number int, counts map[element]tally) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.tables[table].number != number {
		return nil
	}
	var err error
	for pod, count := range counts {
		if _, left := c.left[pod]; !left {
			c.count(pod, count)
		} else if _, leaving := c.leaving[pod]; leaving {
			err = errLeaving
		}
	}
	return err
}

// Totals returns the totals, and forgets those for which known is false.
func (c *Counter) Totals(known func(By) bool) map[By]uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	sums := make(map[By]uint64)
	for by, packets := range c.gone {
		if known(by) {
			sums[by] += packets
		} else {
			delete(c.gone, by) // or those of years would pile up
		}
	}
	for _, count := range c.held {
		sums[count.by] += count.packets
	}
	return sums
}

// AsOf returns when all totals were last current.
func (c *Counter) AsOf() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asOf
}
