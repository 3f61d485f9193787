// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"io/fs"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/watch/denied"
	"github.com/netpold/netpold/watch/explain"
)

// Kernel holds tables of the inet family, for the loop alone. After an error the loop assumes nothing about what the
// kernel holds, and replaces the whole table.
type Kernel interface {
	Reads
	// Apply commits a transaction; packets meet all of it or nothing.
	Apply(ctx context.Context, tx *nft.Transaction) (nft.Result, error)
	// Settle waits until every packet that was in flight when it was called has left the rules.
	Settle(ctx context.Context) error
	// DeleteTable deletes a table, if it is there.
	DeleteTable(ctx context.Context, name string) error
	// Hooked says whether a table has a base chain of that name.
	Hooked(ctx context.Context, table, chain string) (bool, error)
	// InForce says whether a table has a base chain, of whatever name.
	InForce(ctx context.Context, table string) (bool, error)
	// Shape returns how much a table holds; fs.ErrNotExist if there is no such table. With another error, the counts
	// may stem from different moments.
	Shape(ctx context.Context, table string) (nft.Shape, error)
}

// Reads reads from the kernel, concurrently with transactions.
type Reads interface {
	denied.Reads
	explain.Reads
	// Generation returns the number of the ruleset.
	Generation(ctx context.Context) (uint32, error)
}

// apply commits a transaction: a change, or a whole table.
func (l *Loop) apply(ctx context.Context, tx *nft.Transaction) error {
	if tx.Replaces() {
		return l.replace(ctx, tx)
	}
	l.denied.Begin(ctx, l.config.Kernel, tx)
	result, err := l.config.Kernel.Apply(ctx, tx)
	l.denied.End(tx, result, err)
	return err
}

// replace commits a whole table. A large one takes many transactions, so that others may write in between; and even in
// one, a packet in the old table while it is deleted may find its rules but miss its maps, and pass. So a second table
// of the same content, the handover, is in force from before the old one is deleted until the new one is in force:
//
//	old table   ────────────┤ deleted
//	handover           ├─────────────────────────────┤ deleted
//	new table                      building ├────────────────
//
// A netpold that is killed in between leaves one of them in force, and the next one continues from there. If neither
// is, there is nothing to hand over, and no time to lose.
func (l *Loop) replace(ctx context.Context, tx *nft.Transaction) error {
	handover := *tx
	handover.Table, handover.Comment = frame.HandoverTable, "in force while inet "+tx.Table+" is replaced"
	covered, err := l.config.Kernel.InForce(ctx, handover.Table)
	if err != nil {
		return err
	}
	// Another version's table counts too, whose base chains may have other names. They are made last, so the rest of it
	// is there.
	old, err := l.config.Kernel.InForce(ctx, tx.Table)
	if err != nil {
		return err
	}
	if old && !covered {
		if err := l.build(ctx, &handover); err != nil {
			return err
		}
	}
	if err := l.retire(ctx, tx); err != nil {
		return err
	}
	if err := l.build(ctx, tx); err != nil {
		return err
	}
	l.looks.base = baseChains(tx)
	return l.retire(ctx, &handover)
}

// build makes a whole table, stage by stage. The last one puts it in force.
func (l *Loop) build(ctx context.Context, tx *nft.Transaction) error {
	detached := *tx
	detached.Detached = true
	if _, err := l.config.Kernel.Apply(ctx, &detached); err != nil {
		return err
	}
	l.denied.Made(tx)
	l.flows.Made(tx.Table)
	return nil
}

// retire deletes the table that tx replaces, even one that another process left. First its base chains go, then the
// packets still in it leave, which would otherwise miss its sets: from then on its counts are final and can be read.
func (l *Loop) retire(ctx context.Context, tx *nft.Transaction) error {
	unhook := &nft.Transaction{Table: tx.Table}
	for _, c := range baseChains(tx) {
		hooked, err := l.config.Kernel.Hooked(ctx, tx.Table, c.Name)
		if err != nil {
			return err
		}
		if hooked { // somebody else may have been faster, and a refusal takes long
			unhook.Ops = append(unhook.Ops, nft.Op{Verb: nft.DeleteChain, Chain: c})
		}
	}
	if len(unhook.Ops) > 0 {
		if _, err := l.config.Kernel.Apply(ctx, unhook); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := l.config.Kernel.Settle(ctx); err != nil {
			return err
		}
	}
	l.flows.Retired(ctx, l.config.Kernel, tx.Table)
	l.denied.Retired(ctx, l.config.Kernel, tx.Table)
	return l.config.Kernel.DeleteTable(ctx, tx.Table)
}

// baseChains returns the base chains that tx makes.
func baseChains(tx *nft.Transaction) []*nft.Chain {
	var chains []*nft.Chain
	for _, op := range tx.Ops {
		if op.Verb == nft.AddChain && op.Chain.Base != nil {
			chains = append(chains, op.Chain)
		}
	}
	return chains
}
