// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// marker is set in the environment of a test binary that already runs inside a user namespace.
const marker = "NETPOLD_TEST_USERNS"

// Run runs the tests, and is meant for TestMain:
//
//	func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }
//
// If the user may not make network namespaces, the test binary runs again as root of a user namespace. If that is
// forbidden too, the tests run as they are, and those that need a namespace skip or fail: see Require.
func Run(m *testing.M) int {
	if os.Getenv(marker) != "" || allowed() {
		return m.Run()
	}
	// The death signal below follows the thread that starts the process, not this process.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := again()
	if err := cmd.Start(); err != nil {
		return m.Run()
	}
	var exit *exec.ExitError
	switch err := cmd.Wait(); {
	case err == nil:
		return 0
	case errors.As(err, &exit) && exit.ExitCode() > 0:
		return exit.ExitCode()
	default: // for example, killed by a signal
		return 1
	}
}

// allowed reports whether this process may make network namespaces.
func allowed() bool {
	result := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked, so that nobody else gets the thread
		result <- unix.Unshare(unix.CLONE_NEWNET)
	}()
	return <-result == nil
}

// again is this command inside a user namespace in which the user is root.
func again() *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), marker+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	return cmd
}
