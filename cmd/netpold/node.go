// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft/kernel"
)

// A node, that is a network namespace, has one netpold: two would undo each other's table. Two things identify it, and
// both end with the process, however it ends.
//
// nodeLock is a table, which takes CAP_NET_ADMIN to create and names the socket. nodeSocket is where the daemon answers
// the program's own commands: an abstract unix socket, whose name anybody in the network namespace can take first. The
// daemon then uses another name. Older versions have only the socket.
const (
	nodeLock   = "netpold-lock"
	nodeSocket = "@netpold"
)

// takeNode makes this process the node's netpold, and returns the socket for its commands.
func takeNode(ctx context.Context, conn *kernel.Conn, log *slog.Logger) (net.Listener, error) {
	stale, err := checkLock(ctx)
	if err != nil {
		return nil, err
	}
	l, err := listenNode(ctx, log)
	if err != nil {
		return nil, err
	}
	comment := fmt.Sprintf("netpold, pid %d%s%s", os.Getpid(), answersOn, l.Addr())
	if err := conn.Lock(ctx, nodeLock, comment, stale); err != nil {
		_ = l.Close()
		if errors.Is(err, kernel.ErrLocked) { // taken since checkLock
			return nil, anotherRuns("it has just started")
		}
		return nil, err
	}
	return l, nil
}

// answersOn precedes the socket's name in the lock's comment.
const answersOn = "; it answers on "

// socketOf returns the socket's name from a lock.
func socketOf(l kernel.Lock) string {
	_, name, _ := strings.Cut(l.Comment, answersOn)
	return name
}

func anotherRuns(who string) error {
	return fmt.Errorf("another netpold is running on this node (in this network namespace): %s; stop it first", who)
}

// checkLock returns the lock that an ended netpold has left, or nil if there is none. It fails if another netpold is
// running.
func checkLock(ctx context.Context) (*kernel.Lock, error) {
	lock, err := kernel.ReadLock(ctx, nodeLock)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	peer, err := listenerOf(ctx, socketOf(lock))
	switch {
	case err == nil && (lock.Held || believed(peer)):
		return nil, anotherRuns(describePeer(peer))
	case lock.Held:
		return nil, anotherRuns(lock.Comment)
	}
	return &lock, nil
}

// listenNode opens the socket. It respects an older netpold, which has only the socket.
func listenNode(ctx context.Context, log *slog.Logger) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "unix", nodeSocket)
	if !errors.Is(err, unix.EADDRINUSE) {
		return l, err
	}
	holder := "a process that does not answer"
	if peer, err := listenerOf(ctx, nodeSocket); err == nil {
		holder = describePeer(peer)
		if believed(peer) && listensToTables(ctx) {
			return nil, anotherRuns(holder)
		}
	}
	name := nodeSocket + "-" + rand.Text()
	log.Warn("another process holds the control socket; using a second one, which only commands run as root can find",
		"socket", nodeSocket, "holder", holder, "second", name)
	return new(net.ListenConfig).Listen(ctx, "unix", name)
}

// listenerOf returns the process that listens on a unix socket.
func listenerOf(ctx context.Context, name string) (*unix.Ucred, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", name)
	if err != nil {
		return nil, err
	}
	defer conn.Close() //nolint:errcheck // nothing was said
	return peerOf(conn)
}

// A netpold that has just started, or is committing a large transaction, does not listen for table changes for a
// moment.
const (
	listenLooks = 20
	listenPause = 50 * time.Millisecond
)

// listensToTables says whether any process listens for nf_tables changes in this network namespace, which takes
// CAP_NET_ADMIN. Every netpold does, so if nobody does, the socket's holder is no netpold: any root process in a
// container can hold a socket.
func listensToTables(ctx context.Context) bool {
	for range listenLooks {
		sockets, err := os.ReadFile("/proc/thread-self/net/netlink")
		if err != nil || tableListeners(sockets) > 0 { // not known: respect the socket, to be safe
			return true
		}
		select {
		case <-ctx.Done():
			return true
		case <-time.After(listenPause):
		}
	}
	return false
}

// tableListeners counts the sockets in /proc/net/netlink that listen for nf_tables changes. A line has the socket's
// address, the protocol, the port, the groups in hexadecimal, and more.
func tableListeners(sockets []byte) int {
	n := 0
	for lines := bufio.NewScanner(bytes.NewReader(sockets)); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[1] != strconv.Itoa(unix.NETLINK_NETFILTER) {
			continue
		}
		groups, err := strconv.ParseUint(fields[3], 16, 32)
		if err == nil && groups&(1<<(unix.NFNLGRP_NFTABLES-1)) != 0 {
			n++
		}
	}
	return n
}

// dialNode connects to the node's daemon. The lock names it, and can be trusted as it takes CAP_NET_ADMIN. Without a
// lock (an older version), or the privilege to read it, whoever answers must be root or this user.
func dialNode(ctx context.Context) (net.Conn, error) {
	name, known := nodeSocket, false
	if lock, err := kernel.ReadLock(ctx, nodeLock); err == nil {
		name, known = socketOf(lock), lock.Held
	}
	conn, err := new(net.Dialer).DialContext(ctx, "unix", name)
	if err != nil || known {
		return conn, err
	}
	peer, err := peerOf(conn)
	if err == nil && !believed(peer) {
		err = fmt.Errorf("the socket %s is held by %s, not by a netpold run by root or by this user; "+
			"run the command as root", name, describePeer(peer))
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return conn, nil
}
