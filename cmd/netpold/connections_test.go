// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// TestConnections: a client that leaves many connections open loses the oldest ones, and others still get answers.
func TestConnections(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- serve(ctx, l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "ok")
		}))
	}()
	ask := func() net.Conn {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		if r, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || r.StatusCode != http.StatusOK {
			t.Fatalf("got %v, %v", r, err)
		}
		return conn
	}
	var open []net.Conn
	for range maxConnections + 10 {
		open = append(open, ask())
	}
	for i, conn := range open {
		deadline := time.Now().Add(10 * time.Second) // the server closes it soon
		if i >= 10 {
			deadline = time.Now().Add(time.Millisecond)
		}
		_ = conn.SetReadDeadline(deadline)
		_, err := conn.Read(make([]byte, 1000))
		if timeout := net.Error(nil); i >= 10 != (errors.As(err, &timeout) && timeout.Timeout()) {
			t.Errorf("connection %d of %d: %v", i, len(open), err)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
