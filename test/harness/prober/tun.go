// SPDX-License-Identifier: Apache-2.0

package prober

import (
	"fmt"
	"os/exec"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
)

// The links by which packets enter and leave the node.
const (
	InName  = "pods-in"
	OutName = "pods-out"
)

const (
	queueLength = 8192 // packets
)

// configure makes the calling thread's network namespace a router from one device to the other.
func configure() error {
	if err := netns.SetSysctl("ipv6/conf/all/disable_ipv6", "0"); err != nil {
		return err
	}
	v4, v6 := NodeAddr()
	// No addresses and no multicast groups on the links, or the kernel announces them in the first seconds. This comes
	// before the links are up, and before forwarding makes the node a member of the routers' group.
	cmd := exec.Command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(fmt.Sprintf(`
link set dev %[1]s multicast off addrgenmode none
link set dev %[2]s multicast off addrgenmode none txqueuelen %[3]d
link set dev %[1]s up
link set dev %[2]s up
address add %[4]s dev lo
address add %[5]s dev lo nodad
route add 0.0.0.0/0 dev %[2]s
route add ::/0 dev %[2]s
`, InName, OutName, queueLength, v4, v6))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip: %w: %s", err, out)
	}
	for _, path := range []string{"ipv4/conf/all/rp_filter", "ipv4/conf/" + InName + "/rp_filter"} {
		// the larger one counts
		if err := netns.SetSysctl(path, "0"); err != nil {
			return err
		}
	}
	for _, path := range []string{"ipv4/ip_forward", "ipv6/conf/all/forwarding"} {
		if err := netns.SetSysctl(path, "1"); err != nil {
			return err
		}
	}
	return nil
}

// pin keeps the calling goroutine on the CPU it is on, until unpin is called.
func pin() (unpin func(), err error) {
	runtime.LockOSThread()
	defer func() {
		if err != nil {
			runtime.UnlockOSThread()
		}
	}()
	var before, one unix.CPUSet
	if err := unix.SchedGetaffinity(0, &before); err != nil {
		return nil, fmt.Errorf("get affinity: %w", err)
	}
	var cpu uint32
	if _, _, errno := unix.RawSyscall(unix.SYS_GETCPU, uintptr(unsafe.Pointer(&cpu)), 0, 0); errno != 0 {
		return nil, fmt.Errorf("getcpu: %w", errno)
	}
	one.Set(int(cpu))
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		return nil, fmt.Errorf("set affinity: %w", err)
	}
	return func() {
		_ = unix.SchedSetaffinity(0, &before)
		runtime.UnlockOSThread()
	}, nil
}
