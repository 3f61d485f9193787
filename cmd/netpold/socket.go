// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// peerKey is the key of a connection's peer in the context of its requests.
type peerKey struct{}

// withPeer adds the process at the other end of a unix socket to the context of its requests.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	peer, err := peerOf(conn)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer)
}

// private serves handler only to root and the daemon's own user: what is denied to whom is not everybody's business.
func private(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, ok := r.Context().Value(peerKey{}).(*unix.Ucred)
		if !ok || !believed(peer) {
			http.Error(w, "the daemon answers only root and its own user", http.StatusForbidden)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// peerOf returns the process at the other end of a unix socket, be it the client or the listener.
func peerOf(conn net.Conn) (*unix.Ucred, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return nil, fmt.Errorf("%s is not a unix socket", conn.RemoteAddr())
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var peer *unix.Ucred
	control := raw.Control(func(fd uintptr) {
		peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return peer, cmp.Or(control, err)
}

// believed says whether a process belongs to root or to this user.
func believed(peer *unix.Ucred) bool { return peer.Uid == 0 || int(peer.Uid) == os.Getuid() }

// describePeer names a process. One in another container has no pid here.
func describePeer(peer *unix.Ucred) string {
	if peer.Pid == 0 {
		return fmt.Sprintf("a process in another container, user %d", peer.Uid)
	}
	program, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", peer.Pid)) // it may have ended
	return fmt.Sprintf("pid %d (%s), user %d", peer.Pid, cmp.Or(strings.TrimSpace(string(program)), "?"), peer.Uid)
}
