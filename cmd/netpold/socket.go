// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// nodeSocket is where the daemon of a node answers the program's own commands. It also makes sure that no other netpold runs in this
// network namespace: two would undo each other's table. It is an abstract unix socket, which belongs to the network namespace and is gone
// with the process, however that ends; whoever shares the namespace can connect to it.
const nodeSocket = "@netpold"

// listenNode takes the node.
func listenNode(ctx context.Context) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "unix", nodeSocket)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, errors.New("another netpold runs on this node (in this network namespace); stop it first")
	}
	if err != nil {
		return nil, fmt.Errorf("lock the node: %w", err)
	}
	return l, nil
}

// peerKey is the key of a connection's peer in the context of its requests.
type peerKey struct{}

// withPeer adds the process at the other end of a unix socket to the context of its requests.
func withPeer(ctx context.Context, conn net.Conn) context.Context {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return ctx
	}
	raw, err := unixConn.SyscallConn()
	if err != nil {
		return ctx
	}
	var peer *unix.Ucred
	if raw.Control(func(fd uintptr) { peer, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }) != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, peerKey{}, peer)
}

// private lets root and the daemon's own user ask handler, and nobody else: what is denied to whom is not everybody's business.
func private(handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		peer, ok := r.Context().Value(peerKey{}).(*unix.Ucred)
		if !ok || peer.Uid != 0 && int(peer.Uid) != os.Getuid() {
			http.Error(w, "the daemon answers root and its own user only", http.StatusForbidden)
			return
		}
		handler.ServeHTTP(w, r)
	})
}
