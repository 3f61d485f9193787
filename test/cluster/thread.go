// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"net"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"
)

// thread is one operating system thread that stays in one network namespace. Two things depend on it: a socket belongs
// to the namespace of the thread that makes it, while Go moves goroutines between threads; and the kernel sends a child
// its death signal when the thread that started it ends, not the process.
type thread struct {
	calls chan func()   // run one after another on the thread
	stop  chan struct{} // closed by close
	once  sync.Once
	done  chan struct{} // closed when the thread takes no more calls
}

// newThread starts a thread in the network namespace of the caller's thread. Close ends it.
func newThread() (*thread, error) {
	ns, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the network namespace: %w", err)
	}
	t := &thread{calls: make(chan func()), stop: make(chan struct{}), done: make(chan struct{})}
	entered := make(chan error)
	go t.run(ns, entered)
	if err := <-entered; err != nil {
		return nil, err
	}
	return t, nil
}

// run never unlocks its thread, so that the thread ends with it and no other goroutine gets its namespace.
func (t *thread) run(ns int, entered chan<- error) {
	runtime.LockOSThread()
	defer close(t.done)
	err := unix.Setns(ns, unix.CLONE_NEWNET)
	unix.Close(ns)
	if err != nil {
		entered <- fmt.Errorf("enter the network namespace: %w", err)
		return
	}
	entered <- nil
	for {
		select {
		case call := <-t.calls:
			call()
		case <-t.stop:
			return
		}
	}
}

// close ends the thread after its current call. The kernel kills its remaining children.
func (t *thread) close() {
	t.once.Do(func() { close(t.stop) })
	<-t.done
}

// do runs call on the thread and waits for it. On a closed thread it returns the error of a closed port, which is an
// outage to clients.
func (t *thread) do(call func() error) error {
	result := make(chan error, 1)
	select {
	case t.calls <- func() { result <- call() }:
		return <-result
	case <-t.done:
		return fmt.Errorf("cluster is closed: %w", unix.ECONNREFUSED)
	}
}

// dial connects from the thread's namespace. It dials only loopback addresses, so calls are short and others can wait.
func (t *thread) dial(ctx context.Context, network, address string) (net.Conn, error) {
	var conn net.Conn
	err := t.do(func() (err error) {
		var d net.Dialer
		conn, err = d.DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// free returns an error if anybody listens on one of the addresses in the thread's namespace.
func (t *thread) free(addresses ...string) error {
	return t.do(func() error {
		for _, address := range addresses {
			l, err := net.Listen("tcp", address)
			if err != nil {
				return err
			}
			l.Close()
		}
		return nil
	})
}
