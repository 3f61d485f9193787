// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/test/harness/cases"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

var update = flag.Bool("update", false,
	"rewrite table.nft and errors of testdata; flows and their verdicts are written by hand")

// load loads the golden cases.
func load(t *testing.T) []*cases.Case {
	t.Helper()
	all, err := cases.Load("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestGolden compares each case's table and errors with its file, and its flows with the two answers that need no
// kernel: the nodes' rules, and the policies' own text.
func TestGolden(t *testing.T) {
	for _, c := range load(t) {
		t.Run(c.Name, func(t *testing.T) {
			goldenTable(t, c)
			tables := make(map[string]*nft.Table)
			for _, node := range c.Nodes() {
				s, _ := c.State(node)
				tables[node] = s.Complete()
			}
			for _, f := range c.Flows {
				if !f.FromNode() {
					goldenFlow(t, c, tables, f)
				}
			}
		})
	}
}

// TestGoldenIndex compares testdata/README.md with the titles of the cases, or writes it.
func TestGoldenIndex(t *testing.T) {
	const file = "testdata/README.md"
	text := "# Golden cases\n\nWhat policies mean, one file each: a cluster, flows with their verdicts, and the " +
		"ruleset of a node.\n[doc.go](../../test/harness/cases/doc.go) says how to read them.\n\n" +
		"| case | what it says |\n|---|---|\n"
	for _, c := range load(t) {
		text += fmt.Sprintf("| [%s](%s.txtar) | %s |\n", c.Name, c.Name, c.Title)
	}
	have, err := os.ReadFile(file)
	switch {
	case string(have) == text:
	case *update:
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is out of date (go test ./translate -run Golden -update writes it): %v\n%s", file, err,
			diff(text, string(have)))
	}
}

// goldenTable compares the table and the errors with the file's, or writes them.
func goldenTable(t *testing.T, c *cases.Case) {
	t.Helper()
	s, errs := c.State(c.Node)
	table := s.Complete().String()
	if table == c.Table && slices.Equal(errs, c.Errors) {
		return
	}
	if *update {
		if err := os.WriteFile(c.File, c.Format(table, errs), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if !slices.Equal(errs, c.Errors) {
		t.Errorf("%s: errors are\n%q, want\n%q", c.File, errs, c.Errors)
	}
	if table != c.Table {
		t.Errorf("%s: the table is another (go test ./translate -run Golden -update writes it):\n%s", c.File,
			diff(c.Table, table))
	}
}

// goldenFlow checks a flow with the policies, and with the tables of all nodes. A node with neither end does not see
// it.
func goldenFlow(t *testing.T, c *cases.Case, tables map[string]*nft.Table, f cases.Flow) {
	t.Helper()
	e := c.Cluster.Explain(f.Flow)
	if e.Allowed != f.Allow || (e.Allowed && (e.Egress.WouldDeny() || e.Ingress.WouldDeny())) != f.Audit {
		t.Errorf("%s: Explain: %s", f, c.Cluster.Describe(e))
	}
	allow, audit := true, false
	var path []string
	for node, table := range tables {
		trail, err := trace.Follow(table, frame.PacketOf(f.Flow))
		steps, v := trail.Steps, trail.Verdict
		if err != nil {
			t.Errorf("%s: node %s: %v", f, node, err)
		}
		allow = allow && v.Kind == nft.Accept
		audit = audit || cases.WouldDeny(trail) != [2]bool{}
		for _, s := range steps {
			path = append(path, fmt.Sprintf("%s: %s: %s { %s }", node, s.Chain, s.Rule, s.Element()))
		}
	}
	if allow != f.Allow || (allow && audit) != f.Audit {
		t.Errorf("%s: the rules allow it: %t, and audited policies would deny it: %t\n%s", f, allow, audit,
			strings.Join(path, "\n"))
	}
}

// TestGoldenPaths brings the state of each case's node to the case by way of another case's cluster: objects come in
// any order, twice, go, and come again. The table is the golden one, and the transactions on the way leave a model of
// the kernel with exactly that.
func TestGoldenPaths(t *testing.T) {
	all := load(t)
	for seed, c := range all {
		t.Run(c.Name, func(t *testing.T) {
			r := random.Source(uint64(seed))
			var kernel model
			s := translate.New(c.Node, c.Options)
			for i, e := range detour(r, all[r.IntN(len(all))].Cluster, c.Cluster) {
				if e.Apply(s); r.IntN(3) > 0 {
					continue
				}
				if tx := s.Complete().Take(); tx != nil {
					if err := kernel.apply(tx); err != nil {
						t.Fatalf("event %d: %v in\n%s", i, err, tx)
					}
				}
				if r.IntN(3) == 0 {
					s.Complete().Reap(s.Complete().Retired())
				}
			}
			if got := s.Complete().String(); got != c.Table {
				t.Errorf("the table depends on the way to it:\n%s", diff(c.Table, got))
			}
			if err := kernel.settle(s.Complete()); err != nil {
				t.Fatal(err)
			}
			var whole model
			fresh, _ := c.State(c.Node)
			if err := whole.apply(fresh.Complete().Take()); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(whole, kernel) {
				t.Errorf("the kernel does not hold what it should:\n%s", diff(whole.String(), kernel.String()))
			}
		})
	}
}

// detour returns events that end with the objects of a cluster, and no others.
func detour(r *rand.Rand, other, end *policy.Cluster) []random.Event {
	remove := func(e random.Event) random.Event { return random.Event{Kind: e.Kind, Name: e.Name, Delete: true} }
	shuffled := func(events []random.Event) []random.Event {
		r.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		return events
	}
	theirs, ours := random.Events(other), random.Events(end)
	var first, last []random.Event
	for _, e := range theirs {
		first = append(first, e, e, remove(e))
		if !slices.ContainsFunc(ours, func(o random.Event) bool { return o.Kind == e.Kind && o.Name == e.Name }) {
			last = append(last, remove(e))
		}
	}
	for _, e := range ours {
		first = append(first, e, e, remove(e))
		last = append(last, e, e)
	}
	return append(shuffled(first), shuffled(last)...)
}
