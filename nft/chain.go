// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Chain is a list of rules. A chain is a value: to change one, give [Table.SetChain] another of the same name.
type Chain struct {
	Name    string
	Comment string // at most [MaxComment] bytes; fixed at creation: the kernel cannot change it
	Base    *Base  // nil: a regular chain; fixed at creation
	Rules   []Rule
}

// statements yields the statements of all rules, in order.
func (c *Chain) statements() iter.Seq[Statement] {
	return func(yield func(Statement) bool) {
		for _, r := range c.Rules {
			for _, s := range r.Statements {
				if !yield(s) {
					return
				}
			}
		}
	}
}

// Hook is the place in the kernel's packet path at which a base chain runs.
type Hook uint8

// The hooks of a node's table.
const (
	Forward Hook = iota // packets that the node routes, from a pod or to one
	Input               // packets to the node's own addresses
)

// String returns the hook's name in nft(8).
func (h Hook) String() string {
	if h == Input {
		return "input"
	}
	return "forward"
}

// Base makes a chain a base chain of type filter; its policy is accept. Base chains are made once and never change: a
// `policy drop` that is the only drop leaks packets whenever the table is replaced.
type Base struct {
	Hook     Hook
	Priority int // relative to "filter" (0), at most 10 from it; lower runs earlier
}

// text is the hook line of the base chain.
func (b *Base) text() string {
	priority := "filter"
	if b.Priority != 0 {
		sign, n := '+', b.Priority
		if n < 0 {
			sign, n = '-', -n
		}
		priority = fmt.Sprintf("filter %c %d", sign, n)
	}
	return "type filter hook " + b.Hook.String() + " priority " + priority + "; policy accept;"
}

// Rule is a list of statements. The kernel evaluates them in order, up to the first that does not match.
type Rule struct {
	Statements []Statement
	Comment    string // at most [MaxComment] bytes
}

// R returns the rule of these statements.
func R(statements ...Statement) Rule { return Rule{Statements: statements} }

// Rules returns the rules that together do what one rule of these statements, matches and a verdict, would do. There is
// a rule for each protocol, because nft(8) 1.0.6 encodes port ranges of several protocols in a way that newer kernels
// refuse (it converts the one byte of `meta l4proto` to network order as a two-byte word).
func Rules(statements ...Statement) []Rule {
	i := slices.IndexFunc(statements, func(s Statement) bool { _, ok := s.(Ports); return ok })
	if i < 0 {
		return []Rule{R(statements...)}
	}
	var rules []Rule
	for _, ports := range statements[i].(Ports).loadable() {
		one := slices.Clone(statements)
		one[i] = ports
		rules = append(rules, R(one...))
	}
	return rules
}

// String returns the rule as nft(8) writes it.
func (r Rule) String() string {
	parts := make([]string, 0, len(r.Statements)+1)
	for _, s := range r.Statements {
		parts = append(parts, s.String())
	}
	if r.Comment != "" {
		parts = append(parts, fmt.Sprintf("comment %q", CleanComment(r.Comment)))
	}
	return strings.Join(parts, " ")
}

// VerdictKind is what happens to a packet.
type VerdictKind uint8

// The verdicts. Continue is the zero value: no verdict, evaluation goes on.
const (
	Continue VerdictKind = iota
	Accept               // ends this base chain; the next one at the hook still sees the packet
	Drop                 // final
	Jump                 // to a chain, returning at its end
	Goto                 // to a chain, returning at its end to the caller of the current chain
	Reject               // drop, and tell the sender: ICMP administratively prohibited
	Reset                // drop, and tell the sender: a TCP reset; only after matching TCP
	Return               // back to the caller of the chain
)

// Verdict is a statement that ends or redirects evaluation.
type Verdict struct {
	Kind  VerdictKind
	Chain string // of Jump and Goto
}

// JumpTo returns the verdict that continues in a chain and returns at its end.
func JumpTo(chain string) Verdict { return Verdict{Jump, chain} }

// GotoChain returns the verdict that continues in a chain and does not return.
func GotoChain(chain string) Verdict { return Verdict{Goto, chain} }

// String returns the verdict as nft(8) writes it.
func (v Verdict) String() string {
	text := [...]string{Continue: "continue", Accept: "accept", Drop: "drop", Jump: "jump ", Goto: "goto ",
		Reject: "reject with icmpx admin-prohibited", Reset: "reject with tcp reset", Return: "return"}[v.Kind]
	return text + v.Chain
}
