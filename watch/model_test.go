// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/netpold/netpold/nft"
)

// modelKernel keeps tables in the model's terms, and refuses what a test says, with everything that depends on it, as a
// kernel does.
type modelKernel struct {
	tables  map[string]*nft.Table
	refuse  func(one nft.Op) *nft.Refusal // of each operation, and of each element alone
	overall func(tx *nft.Transaction) error
	failed  int
	tried   int

	enforced bool // a table was in force
	gaps     int  // how often none was after that
}

// count records whether a table is in force.
func (k *modelKernel) count() {
	hooked := false
	for _, table := range k.tables {
		hooked = hooked || table.Chain("forward") != nil
	}
	if k.enforced && !hooked {
		k.gaps++
	}
	k.enforced = k.enforced || hooked
}

func newModelKernel() *modelKernel { return &modelKernel{tables: make(map[string]*nft.Table)} }

func (k *modelKernel) Apply(_ context.Context, tx *nft.Transaction) (nft.Result, error) {
	k.tried++
	if err := k.judge(tx); err != nil {
		k.failed++
		return nft.Result{}, err
	}
	for _, op := range tx.Ops {
		k.do(tx.Table, op)
	}
	k.count()
	return nft.Result{}, nil
}

// judge returns the error of a transaction, which then has no effect.
func (k *modelKernel) judge(tx *nft.Transaction) error {
	if k.overall != nil {
		if err := k.overall(tx); err != nil {
			return err
		}
	}
	var refused nft.Refused
	missing := make(map[string]bool) // "set NAME", "chain NAME"
	note := func(op nft.Op, r *nft.Refusal) {
		refused.Add(op, -1, r.Cause, r.Err)
		switch op.Verb {
		case nft.AddSet:
			missing["set "+op.Set.Name] = true
		case nft.AddChain:
			missing["chain "+op.Chain.Name] = true
		}
	}
	for _, op := range tx.Ops {
		for _, one := range singles(op) {
			if k.refuse != nil {
				if r := k.refuse(one); r != nil {
					note(one, r)
					continue
				}
			}
			if depends(one, missing) {
				note(one, &nft.Refusal{Cause: nft.Mismatch, Err: errors.New("no such file or directory")})
			}
		}
	}
	if len(refused.Refusals) == 0 {
		return nil
	}
	refused.Err = errors.New(refused.Refusals[0].String())
	return &refused
}

// singles returns the operation for each of its elements, and once without elements.
func singles(op nft.Op) []nft.Op {
	if len(op.Elements) == 0 {
		return []nft.Op{op}
	}
	all := make([]nft.Op, len(op.Elements))
	for i := range op.Elements {
		all[i] = op
		all[i].Elements = op.Elements[i : i+1]
	}
	return all
}

// depends says whether an operation needs something that is missing.
func depends(op nft.Op, missing map[string]bool) bool {
	switch op.Verb {
	case nft.AddElements:
		return missing["set "+op.Set.Name] || missing["chain "+op.Elements[0].Verdict.Chain]
	case nft.AddRule:
		if missing["chain "+op.Chain.Name] {
			return true
		}
		for _, s := range op.Rule.Statements {
			switch s := s.(type) {
			case nft.Lookup:
				if missing["set "+s.Set] {
					return true
				}
			case nft.Verdict:
				if missing["chain "+s.Chain] {
					return true
				}
			}
		}
	}
	return false
}

// do does an operation.
func (k *modelKernel) do(name string, op nft.Op) {
	table := k.tables[name]
	switch op.Verb {
	case nft.AddTable:
		if table == nil {
			k.tables[name] = nft.NewTable(name, "")
		}
	case nft.DeleteTable:
		delete(k.tables, name)
	case nft.AddSet:
		table.Set(op.Set.Name, op.Set.Type, op.Set.Comment)
	case nft.DeleteSet:
		table.DeleteSet(op.Set.Name)
	case nft.AddElements:
		for _, e := range op.Elements {
			table.FindSet(op.Set.Name).Want(e.Key, e.Value)
		}
	case nft.DeleteElements:
		for _, e := range op.Elements {
			table.FindSet(op.Set.Name).Unwant(e.Key)
		}
	case nft.AddChain, nft.FlushChain:
		table.SetChain(&nft.Chain{Name: op.Chain.Name, Base: op.Chain.Base})
	case nft.DeleteChain:
		table.DeleteChain(op.Chain.Name)
	case nft.AddRule:
		old := table.Chain(op.Chain.Name)
		table.SetChain(&nft.Chain{Name: old.Name, Base: old.Base, Rules: append(slices.Clone(old.Rules), *op.Rule)})
	}
}

func (k *modelKernel) DeleteTable(_ context.Context, name string) error {
	delete(k.tables, name)
	k.count()
	return nil
}

func (k *modelKernel) Hooked(_ context.Context, table, chain string) (bool, error) {
	return k.tables[table] != nil && k.tables[table].Chain(chain) != nil, nil
}

func (k *modelKernel) InForce(_ context.Context, table string) (bool, error) {
	if k.tables[table] != nil {
		for _, c := range k.tables[table].Chains() {
			if c.Base != nil {
				return true, nil
			}
		}
	}
	return false, nil
}

func (k *modelKernel) Elements(context.Context, string, string, nft.SetType) ([]nft.Counted, error) {
	return nil, fs.ErrNotExist
}

func (k *modelKernel) ChainCount(context.Context, string, string) (uint64, error) {
	return 0, fs.ErrNotExist
}

func (k *modelKernel) Shape(context.Context, string) (nft.Shape, error) {
	return nft.Shape{Owned: true}, nil
}

func (k *modelKernel) Element(context.Context, string, *nft.Set, nft.Key) (nft.Counted, error) {
	return nft.Counted{}, fs.ErrNotExist
}

func (k *modelKernel) Rules(context.Context, string, *nft.Chain) ([]nft.HeldRule, error) {
	return nil, nil
}

func (*modelKernel) Settle(context.Context) error { return nil }

func (k *modelKernel) Generation(context.Context) (uint32, error) { return uint32(k.tried), nil }
