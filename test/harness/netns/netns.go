// SPDX-License-Identifier: Apache-2.0

// Package netns gives each kernel test its own network namespace, as root or as an ordinary user.
//
// A namespace belongs to an operating system thread, so it follows a goroutine only while that one is locked to its
// thread. Commands which the goroutine starts inherit it, and so do the sockets it opens. A test's thread dies with the
// test, and the namespace with the last thread, process or socket in it.
package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// A Namespace is a network namespace that several threads can enter.
type Namespace struct {
	file *os.File
}

// Enter moves the test into a new network namespace, in which only loopback is up. If that is impossible the test is
// skipped, or fails if CI is set in the environment. A subtest has its own goroutine and must Join.
func Enter(t testing.TB) *Namespace {
	t.Helper()
	n, err := New()
	Require(t, err)
	t.Cleanup(func() { _ = n.Close() })
	return n
}

// Require ends the test if there is an error: it skips if the machine lacks a permission, a device or a program, unless
// CI is set in the environment, and fails otherwise.
func Require(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case lacking(err) && os.Getenv("CI") == "":
		t.Skip(err)
	default:
		t.Fatal(err)
	}
}

// lacking reports whether the machine is to blame for the error, not the code.
func lacking(err error) bool {
	for _, target := range []error{
		fs.ErrPermission, fs.ErrNotExist, exec.ErrNotFound, unix.ENODEV, unix.ENOSYS, unix.ENOSPC, unix.EROFS,
	} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// New moves the calling goroutine into a new network namespace, in which only loopback is up. The goroutine stays
// locked to its thread, which must not be unlocked: it ends with the goroutine. On error the goroutine is where it was,
// unless loopback is what failed.
func New() (*Namespace, error) {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("new network namespace: %w", err)
	}
	if err := up("lo"); err != nil {
		return nil, fmt.Errorf("new network namespace: %w", err)
	}
	// /proc/self is the process's first thread, which may be in another namespace.
	file, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("new network namespace: %w", err)
	}
	return &Namespace{file: file}, nil
}

// up brings a link up.
func up(link string) error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer func() { _ = unix.Close(s) }()
	request, err := unix.NewIfreq(link)
	if err != nil {
		return fmt.Errorf("link %s: %w", link, err)
	}
	if err := unix.IoctlIfreq(s, unix.SIOCGIFFLAGS, request); err != nil {
		return fmt.Errorf("flags of link %s: %w", link, err)
	}
	request.SetUint16(request.Uint16() | unix.IFF_UP)
	if err := unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring link %s up: %w", link, err)
	}
	return nil
}

// Join moves the calling goroutine into the namespace for good. Subtests follow their parent that way.
func (n *Namespace) Join(t testing.TB) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
		t.Fatalf("join network namespace: %v", err)
	}
}

// Path is a name of the namespace for ip(8), as long as this process has it.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Close releases the namespace. Threads in it stay there.
func (n *Namespace) Close() error { return n.file.Close() }
