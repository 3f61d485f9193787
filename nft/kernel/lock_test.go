// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"io/fs"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
)

// A lock belongs to one process, says which, and is gone with it.
func TestLock(t *testing.T) {
	netns.Enter(t)
	const name = "lock"
	first, second := open(t, kernel.Config{Own: true}), open(t, kernel.Config{})
	if _, err := kernel.ReadLock(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("before anybody took it: %v", err)
	}
	if err := first.Lock(t.Context(), name, "the first", nil); err != nil {
		t.Fatal(err)
	}
	if err := second.Lock(t.Context(), name, "the second", nil); !errors.Is(err, kernel.ErrLocked) {
		t.Errorf("taken twice: %v", err)
	}
	l, err := kernel.ReadLock(t.Context(), name)
	if err != nil || l.Comment != "the first" {
		t.Errorf("read %+v, %v", l, err)
	}
	if !l.Held {
		netns.Lacks(t, "tables with an owner", 5, 12)
	}
	netns.NFT(t, "", "flush", "ruleset")
	if !refuses("delete table inet " + name) {
		t.Error("somebody else may delete it")
	}
	_ = first.Close()
	if _, err := kernel.ReadLock(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after its holder ended: %v", err)
	}
	if err := second.Lock(t.Context(), name, "the second", nil); err != nil {
		t.Errorf("after the first one's end: %v", err)
	}
}

// A lock that an older kernel left behind is replaced once: the second process that found it stale loses.
func TestStaleLock(t *testing.T) {
	netns.Enter(t)
	const name = "lock"
	netns.NFT(t, "", "add table inet lock { comment \"who has ended\"; }")
	stale, err := kernel.ReadLock(t.Context(), name)
	if err != nil || stale.Held || stale.Comment != "who has ended" {
		t.Fatalf("read %+v, %v", stale, err)
	}
	first, second := open(t, kernel.Config{}), open(t, kernel.Config{})
	if err := first.Lock(t.Context(), name, "the first", nil); !errors.Is(err, kernel.ErrLocked) {
		t.Errorf("without replacing it: %v", err)
	}
	if err := first.Lock(t.Context(), name, "the first", &stale); err != nil {
		t.Error(err)
	}
	if err := second.Lock(t.Context(), name, "the second", &stale); !errors.Is(err, kernel.ErrLocked) {
		t.Errorf("to replace it again: %v", err)
	}
	if l, err := kernel.ReadLock(t.Context(), name); err != nil || l.Comment != "the first" {
		t.Errorf("read %+v, %v", l, err)
	}
}

// Unprivileged users can neither take nor read a lock.
func TestLockWithoutPrivileges(t *testing.T) {
	netns.Enter(t)
	c := open(t, kernel.Config{})
	dropCapability(t, unix.CAP_NET_ADMIN)
	if err := c.Lock(t.Context(), "lock", "", nil); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("take: %v", err)
	}
	if _, err := kernel.ReadLock(t.Context(), "lock"); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("read: %v", err)
	}
}
