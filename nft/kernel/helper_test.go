// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
)

// enter puts the test into a network namespace of its own. The test's goroutine keeps its thread, which dies with it.
func enter(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
}

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

// nftCommand runs nft(8) in the namespace of the calling thread.
func nftCommand(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// list returns nft(8)'s stateless listing of the table, in a canonical order.
func list(t testing.TB, table string) string {
	t.Helper()
	return canonical(nftCommand(t, "", "-s", "list", "table", "inet", table))
}

// anonymousSet is a set inside a rule, whose order is that of the kernel's hash.
var anonymousSet = regexp.MustCompile(`\{ ([^{}\n]*) \}`)

// canonical sorts what the kernel keeps in an order of its own: blocks, elements and anonymous sets.
func canonical(listing string) string {
	head, body, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(listing), "\n}"), "\n")
	blocks := strings.Split(body, "\n\n")
	for i, block := range blocks {
		block = strings.Trim(block, "\n")
		block = regexp.MustCompile(`,\s*\n\s*`).ReplaceAllString(block, ", ")
		blocks[i] = anonymousSet.ReplaceAllStringFunc(block, func(s string) string {
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
