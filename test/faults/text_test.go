// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/train"
)

// testText compares what run writes over netlink with what nft loads from the output of render.
func testText(t *testing.T, program string) {
	netns.Enter(t)
	d := newDaemon(t, program, pause)
	d.write("world.yaml", train.World)
	d.write("permission.yaml", train.Permission)
	d.start()
	same(t, d)
	for i := 1; i <= 11; i++ {
		d.write("change.yaml", train.Bystanding(i))
		d.await(transaction)
	}
	same(t, d)
}

// same fails the test unless the daemon's table becomes the one that render prints for its folder. It waits, because
// retired chains go a little later.
func same(t *testing.T, d *daemon) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "netpold.nft")
	render, err := exec.Command(d.program, "render", "--node=node-1", "-f", d.folder()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(script, render, 0o644); err != nil {
		t.Fatal(err)
	}
	var loaded string
	t.Run("loaded", func(t *testing.T) {
		netns.Enter(t)
		if out, err := d.nft("-f", script); err != nil {
			t.Fatalf("nft -f: %v: %s", err, out)
		}
		loaded = listing(t, d)
	})
	for deadline := time.Now().Add(*patience); ; d.idle() {
		running := listing(t, d)
		extra, lacking := missing(running, loaded), missing(loaded, running)
		if way := "chain forward-ingress {"; strings.Contains(running, way) && !strings.Contains(loaded, way) {
			extra, lacking = slices.DeleteFunc(extra, isWay), slices.DeleteFunc(lacking, isWay)
		}
		if len(extra)+len(lacking) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("only run wrote:\n%s\nonly render printed:\n%s", strings.Join(extra, "\n"),
				strings.Join(lacking, "\n"))
		}
	}
}

// isWay says whether a block is a chain that run writes differently on kernels that walk every path through the chains.
// render knows no kernel: see translate.Options.TwoWays.
func isWay(block string) bool {
	name, _, _ := strings.Cut(block, " {")
	return name == "chain forward" || name == "chain forward-ingress" || name == "chain ingress"
}

// missing returns the sets and chains of one listing that are not in the other. The kernel lists them in the order in
// which they were added, and the elements of a set in any order.
func missing(from, in string) []string {
	known := make(map[string]bool)
	for _, b := range blocks(in) {
		known[b] = true
	}
	return slices.DeleteFunc(blocks(from), func(b string) bool { return known[b] })
}

// blocks are the sets and chains of a listing, each with the words of its elements in order.
func blocks(listing string) []string {
	listing = strings.TrimSuffix(strings.TrimSpace(listing), "}")
	table, comment, rest := cutLines(listing)
	all := []string{table, comment}
	for b := range strings.SplitSeq(rest, "\n\n") {
		if before, after, ok := strings.Cut(b, "elements = {"); ok {
			elements := strings.FieldsFunc(after, func(r rune) bool { return strings.ContainsRune(",{}\n\t", r) })
			for i := range elements {
				elements[i] = strings.TrimSpace(elements[i])
			}
			slices.Sort(elements)
			b = before + strings.Join(elements, "\n")
		}
		all = append(all, strings.TrimSpace(b))
	}
	return all
}

// listing is the table as nft lists it, without counts.
func listing(t *testing.T, d *daemon) string {
	t.Helper()
	out, err := d.nft("-s", "list", "table", "inet", "netpold")
	if err != nil || !strings.Contains(out, "chain") {
		t.Fatalf("nft list table: %v: %s", err, out)
	}
	return netns.Unowned(out)
}

// cutLines cuts off the first two lines.
func cutLines(s string) (first, second, rest string) {
	first, rest, _ = strings.Cut(s, "\n")
	second, rest, _ = strings.Cut(rest, "\n")
	return first, second, rest
}
