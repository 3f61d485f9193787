// SPDX-License-Identifier: Apache-2.0

package netns_test

import (
	"net"
	"os"
	"runtime"
	"testing"

	"github.com/netpold/netpold/test/harness/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// here is the name of the calling thread's network namespace.
func here(t *testing.T) string {
	t.Helper()
	name, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

func TestEnter(t *testing.T) {
	runtime.LockOSThread()
	before := here(t)
	n := netns.Enter(t)
	inside := here(t)
	if inside == before {
		t.Fatalf("still in %s", before)
	}
	if got := names(t); len(got) != 1 || got["lo"]&net.FlagUp == 0 {
		t.Errorf("links: %v, want loopback, up", got)
	}
	t.Run("stranger", func(t *testing.T) {
		runtime.LockOSThread()
		if got := here(t); got == inside {
			t.Errorf("a subtest that did not join is in %s", got)
		}
	})
	t.Run("joined", func(t *testing.T) {
		n.Join(t)
		if got := here(t); got != inside {
			t.Errorf("joined %s, want %s", got, inside)
		}
	})
}

// names returns the flags of each link.
func names(t *testing.T) map[string]net.Flags {
	t.Helper()
	links, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	flags := make(map[string]net.Flags)
	for _, link := range links {
		flags[link.Name] = link.Flags
	}
	return flags
}

// TestApart: each namespace is a new one, even from inside another.
func TestApart(t *testing.T) {
	netns.Enter(t)
	first := here(t)
	netns.Enter(t)
	if second := here(t); second == first {
		t.Errorf("twice in %s", first)
	}
}
