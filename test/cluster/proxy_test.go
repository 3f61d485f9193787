// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package cluster

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// proxy sits between a client and the API server, and loses connections.
type proxy struct {
	cluster  *Cluster
	listener net.Listener

	mu      sync.Mutex
	conns   map[net.Conn]struct{}
	failed  int // connections that did not reach the API server
	blocked bool
}

// newProxy returns a proxy in the network namespace of the calling thread, which must be the cluster's. It ends with
// the test.
func newProxy(t *testing.T, c *Cluster) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", apiServerHost+":0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{cluster: c, listener: l, conns: make(map[net.Conn]struct{})}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			serving.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.block()
		serving.Wait()
	})
	return p
}

// url is the address at which a client reaches the API server.
func (p *proxy) url() string { return "https://" + p.listener.Addr().String() }

// serve connects a client to the API server until one of them, or cut, ends it.
func (p *proxy) serve(client net.Conn) {
	defer client.Close()
	server, err := p.cluster.thread.dial(context.Background(), "tcp", apiServerAddress)
	if err != nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.failed++
		return
	}
	defer server.Close()
	if !p.add(client) {
		return
	}
	defer p.remove(client)
	go func() {
		_, _ = io.Copy(server, client)
		_ = server.Close() // which ends the other direction
	}()
	_, _ = io.Copy(client, server)
}

func (p *proxy) add(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.blocked {
		p.conns[conn] = struct{}{}
	}
	return !p.blocked
}

func (p *proxy) remove(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, conn)
}

// cut resets all connections, and returns how many there were. New ones are accepted.
func (p *proxy) cut() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for conn := range p.conns {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // a reset
		}
		_ = conn.Close()
	}
	return len(p.conns)
}

// block is cut, and loses new connections, too, until open.
func (p *proxy) block() {
	p.mu.Lock()
	p.blocked = true
	p.mu.Unlock()
	p.cut()
}

func (p *proxy) open() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.blocked = false
}

// failures returns how many connections have not reached the API server.
func (p *proxy) failures() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.failed
}
