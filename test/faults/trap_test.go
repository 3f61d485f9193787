// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
)

// launched, in the environment of this test binary, names the program that it should become under a filter.
const launched = "NETPOLD_FAULTS_LAUNCH"

// hotline is the launcher's end of the socket that passes the listener to the test.
const hotline = 3

// A trap stops each call by which netpold sends or receives, and lets it go on unless a fault is set: then calls on
// netfilter netlink sockets fail. The kernel reports the calls by seccomp's user notification, so the binary is the
// real one, and so is the kernel except for the result.
type trap struct {
	t *testing.T

	mu      sync.Mutex
	fault   fault
	sends   int             // on netlink since the fault was set
	pending map[string]bool // sockets whose next answer is lost
	failed  int             // calls
}

// A fault says which netlink calls fail, and how. The zero value is no fault.
type fault struct {
	errno   unix.Errno
	longer  int              // only calls with more bytes fail
	answers bool             // the kernel gets the message, but its answer is lost; otherwise the kernel never gets it
	at      func(n int) bool // whether the n-th call that sends fails
	wait    func()           // instead of failing, the call waits for this
}

// set makes calls fail from now on.
func (p *trap) set(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault, p.sends, p.failed, p.pending = f, 0, 0, make(map[string]bool)
}

// clear ends the fault, and returns how many calls have failed and how many there were.
func (p *trap) clear() (failed, sends int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = fault{}
	return p.failed, p.sends
}

// launch makes cmd start its program under the trap, which works from the start. It returns a function to call after
// cmd has started.
func (p *trap) launch(cmd *exec.Cmd) (serve func()) {
	p.t.Helper()
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	theirs := os.NewFile(uintptr(ends[1]), "hotline")
	cmd.Env = append(cmd.Environ(), launched+"="+cmd.Path)
	cmd.Path = "/proc/self/exe"
	cmd.ExtraFiles = []*os.File{theirs}
	return func() {
		p.t.Helper()
		_ = theirs.Close()
		defer unix.Close(ends[0])
		listener, err := receiveListener(ends[0])
		netns.Require(p.t, err)
		go p.serve(listener)
	}
}

// receiveListener receives the launcher's message: a file descriptor, or an errno.
func receiveListener(socket int) (int, error) {
	word, rights := make([]byte, 4), make([]byte, unix.CmsgSpace(4))
	n, m, _, _, err := unix.Recvmsg(socket, word, rights, unix.MSG_CMSG_CLOEXEC)
	if err == nil && n != len(word) {
		err = errors.New("it died")
	}
	if err != nil {
		return 0, fmt.Errorf("wait for the launcher: %w", err)
	}
	if errno := unix.Errno(binary.NativeEndian.Uint32(word)); errno != 0 {
		return 0, fmt.Errorf("seccomp with user notification: %w", errno)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:m])
	if err != nil {
		return 0, err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return 0, err
	}
	return fds[0], nil
}

// becomeLaunched is the launcher: it installs the filter on itself, passes on the listener, and becomes the program. It
// does not return.
func becomeLaunched(program string) {
	runtime.LockOSThread()
	unix.CloseOnExec(hotline)
	// The filter applies only to this thread, and to what it becomes. Another thread has to send, or it would wait for
	// itself.
	ready, listener, sent := make(chan struct{}), make(chan uintptr), make(chan error)
	go func() {
		runtime.LockOSThread()
		close(ready)
		sent <- unix.Sendmsg(hotline, make([]byte, 4), unix.UnixRights(int(<-listener)), nil, 0)
	}()
	<-ready
	fd, err := filter()
	if err == nil {
		listener <- fd
		if err = <-sent; err == nil {
			// Otherwise Go's scheduler sends many signals, and before Linux 5.19 they interrupt calls.
			err = unix.Exec(program, os.Args, append(os.Environ(), "GODEBUG=asyncpreemptoff=1"))
		}
	}
	var errno unix.Errno
	if !errors.As(err, &errno) {
		errno = unix.EINVAL
	}
	_ = unix.Sendmsg(hotline, binary.NativeEndian.AppendUint32(nil, uint32(errno)), nil, nil, 0)
	os.Exit(1)
}

var (
	sending   = []uint32{unix.SYS_WRITE, unix.SYS_SENDTO, unix.SYS_SENDMSG}
	receiving = []uint32{unix.SYS_READ, unix.SYS_RECVFROM, unix.SYS_RECVMSG}
)

// filter puts the calling thread under the filter, and returns the listener.
func filter() (uintptr, error) {
	calls := slices.Concat(sending, receiving)
	program := []unix.SockFilter{{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}} // the number of the call
	for i, call := range calls {
		program = append(program, unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: call,
			Jt: uint8(len(calls) - i)})
	}
	program = append(program,
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
		unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_USER_NOTIF})
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return 0, err
	}
	all := unix.SockFprog{Len: uint16(len(program)), Filter: &program[0]}
	var fd uintptr
	errno := unix.EINVAL
	// Signals must not interrupt a call that was reported to the test, which only Linux 5.19 and later can promise.
	for _, killable := range []uintptr{unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, 0} {
		if errno == unix.EINVAL {
			fd, _, errno = unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
				unix.SECCOMP_FILTER_FLAG_NEW_LISTENER|killable, uintptr(unsafe.Pointer(&all)))
		}
	}
	if errno != 0 {
		return 0, errno
	}
	return fd, nil
}

// notification is struct seccomp_notif, and reply struct seccomp_notif_resp.
type notification struct {
	id         uint64
	pid, flags uint32
	call, arch uint32
	pointer    uint64
	args       [6]uint64
}

type reply struct {
	id           uint64
	value        int64
	error, flags int32
}

// serve answers until the program has ended.
func (p *trap) serve(listener int) {
	defer unix.Close(listener)
	for {
		poll := []unix.PollFd{{Fd: int32(listener), Events: unix.POLLIN}}
		if _, err := unix.Poll(poll, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if poll[0].Revents&unix.POLLHUP != 0 {
			return
		}
		var n notification
		if !ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&n)) {
			continue // it has been killed
		}
		r := reply{id: n.id, flags: unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE}
		answer := func() { ioctl(listener, unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(&r)) }
		errno, wait := p.judge(n)
		if wait != nil {
			go func() { wait(); answer() }() // others go on
			continue
		}
		if errno != 0 {
			r.error, r.flags = -int32(errno), 0
		}
		answer()
	}
}

func ioctl(fd int, request uintptr, argument unsafe.Pointer) bool {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(argument))
	return errno == 0
}

// judge returns the errno with which a call fails, or 0, and what it waits for.
func (p *trap) judge(n notification) (syscall.Errno, func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.fault.at == nil {
		return 0, nil
	}
	socket, ok := netfilterSocket(n.pid, n.args[0])
	if !ok {
		return 0, nil
	}
	fails := p.pending[socket]
	if slices.Contains(sending, n.call) {
		fails = p.fault.at(p.sends) && int(n.args[2]) >= p.fault.longer // write(2) and sendto(2) have the length there
		p.sends++
		if p.fault.answers {
			p.pending[socket], fails = fails, false
		}
	} else {
		p.pending[socket] = false
	}
	if !fails {
		return 0, nil
	}
	p.failed++
	return p.fault.errno, p.fault.wait
}

// netfilterSocket returns the name in /proc of a process's file, if it is a netfilter netlink socket.
func netfilterSocket(pid uint32, fd uint64) (string, bool) {
	name, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
	inode, ok := strings.CutPrefix(name, "socket:[")
	if err != nil || !ok {
		return "", false
	}
	inode = strings.TrimSuffix(inode, "]")
	sockets, _ := os.ReadFile(fmt.Sprintf("/proc/%d/net/netlink", pid)) // gone with the process
	for line := range strings.Lines(string(sockets)) {
		columns := strings.Fields(line)
		if columns[1] == fmt.Sprint(unix.NETLINK_NETFILTER) && columns[len(columns)-1] == inode {
			return name, true
		}
	}
	return "", false
}
