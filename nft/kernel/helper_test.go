// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// open connects to the namespace of the calling thread.
func open(t testing.TB, config kernel.Config) *kernel.Conn {
	t.Helper()
	c, err := kernel.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// apply commits what the table has pending and, after that, what deletes all that is retired.
func apply(t testing.TB, c *kernel.Conn, table *nft.Table) {
	t.Helper()
	commit(t, c, table)
	table.Reap(table.Retired())
	commit(t, c, table)
}

// commit commits what the table has pending. If the user may not send that much at once, it skips the test.
func commit(t testing.TB, c *kernel.Conn, table *nft.Table) {
	t.Helper()
	_, err := c.Apply(t.Context(), table.Take())
	if errors.Is(err, unix.EMSGSIZE) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// list returns nft(8)'s stateless listing of the table, in a canonical order.
func list(t testing.TB, table string) string {
	t.Helper()
	return canonical(netns.NFT(t, "", "-s", "list", "table", "inet", table))
}

var (
	tableComment = regexp.MustCompile(`(?m)^\tcomment .*$`)
	continued    = regexp.MustCompile(`,\s*\n\s*`)      // a list of elements, on the next line
	elementList  = regexp.MustCompile(`\{ [^{}\n]* \}`) // of a set or an anonymous set
)

// canonical sorts what the kernel keeps in its own order: blocks and elements.
func canonical(listing string) string {
	head, body, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(listing), "\n}"), "\n")
	body = tableComment.ReplaceAllString(body, "$0\n") // a block of its own
	blocks := strings.Split(body, "\n\n")
	for i, block := range blocks {
		block = strings.Trim(block, "\n")
		block = continued.ReplaceAllString(block, ", ")
		blocks[i] = elementList.ReplaceAllStringFunc(block, func(s string) string {
			items := strings.Split(strings.Trim(s, "{ }"), ", ")
			slices.Sort(items)
			return "{ " + strings.Join(items, ", ") + " }"
		})
	}
	slices.Sort(blocks)
	return head + "\n" + strings.Join(blocks, "\n\n") + "\n"
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// span returns the key of a prefix.
func span(prefix string) nft.Key {
	p := netip.MustParsePrefix(prefix)
	return nft.PairKey(p.Addr(), nft.LastAddr(p))
}

func verdict(v nft.Verdict) nft.Value { return nft.Value{Verdict: v} }

// diff returns the lines that only one of two texts has.
func diff(got, want string) string {
	var b strings.Builder
	only := func(sign string, lines, others []string) {
		for _, l := range lines {
			if !slices.Contains(others, l) {
				b.WriteString(sign + l + "\n")
			}
		}
	}
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	only("got  ", g, w)
	only("want ", w, g)
	return b.String()
}
