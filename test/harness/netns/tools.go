// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// NFT runs nft(8) in the namespace of the calling thread and returns what it prints. If it fails, the test does.
func NFT(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.Command("nft", args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("nft %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// ownership is what nft(8) prints about who owns a table.
var ownership = regexp.MustCompile(`(?m)^\tflags.*\n| # progname .*$`)

// Unowned returns a listing by nft(8) without what it says about who owns the table.
func Unowned(listing string) string { return ownership.ReplaceAllString(listing, "") }

// OpenTUN makes a TUN device in the calling thread's network namespace. Closing the descriptor, whose reads do not
// block, removes it.
func OpenTUN(name string) (int, error) {
	const device = "/dev/net/tun"
	fd, err := unix.Open(device, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", device, err)
	}
	request, err := unix.NewIfreq(name)
	if err == nil {
		request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, fmt.Errorf("make device %s: %w", name, err)
	}
	return fd, nil
}

// SetSysctl sets a sysctl of the calling thread's network namespace, below net/: the directory is that of whoever opens
// the file.
func SetSysctl(path, value string) error {
	if err := os.WriteFile("/proc/sys/net/"+path, []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl: %w", err)
	}
	return nil
}

// Lacks ends a test because the kernel lacks a feature: it skips the test on versions before the feature, and fails it
// on later ones.
func Lacks(t testing.TB, what string, major, minor int) {
	t.Helper()
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatalf("uname: %v", err)
	}
	release := unix.ByteSliceToString(name.Release[:])
	var got [2]int
	if _, err := fmt.Sscanf(release, "%d.%d", &got[0], &got[1]); err != nil {
		t.Fatalf("version of the kernel, %s: %v", release, err)
	}
	if slices.Compare(got[:], []int{major, minor}) >= 0 {
		t.Fatalf("Linux %s lacks: %s, which Linux %d.%d has", release, what, major, minor)
	}
	t.Skipf("Linux %s lacks: %s, which Linux %d.%d has", release, what, major, minor)
}
