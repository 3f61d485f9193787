// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/netpold/netpold/watch/preflight"
)

// endpoints serve kubelet and Prometheus. Enforcement matters more than the endpoints: while another process holds the
// address, listening is retried.
type endpoints struct {
	address string
	log     *slog.Logger
	lacking atomic.Pointer[error] // why they are not served; nil if they are
}

// The time between attempts to listen.
const (
	minListenBackoff = 100 * time.Millisecond
	maxListenBackoff = 5 * time.Second
)

// listen returns a listener once the address is free. An invalid address is an error at once.
func (e *endpoints) listen(ctx context.Context) (net.Listener, error) {
	for backoff := minListenBackoff; ; backoff = min(2*backoff, maxListenBackoff) {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", listenAddress(e.address))
		_, refused := errors.AsType[*os.SyscallError](err)
		switch {
		case err == nil:
			if e.lacking.Swap(nil) != nil {
				e.log.Info("serving /metrics, /livez, /readyz and /status", "listen", e.address)
			}
			return l, nil
		case !refused:
			return nil, fmt.Errorf("--listen=%s: %w", e.address, err)
		case e.lacking.Swap(&err) == nil:
			e.log.Warn("cannot serve /metrics, /livez, /readyz and /status, will retry; enforcement unaffected",
				"listen", e.address, "err", err)
		}
		select {
		case <-time.After(backoff):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// serve answers on the address until ctx ends. Without an address it only waits.
func (e *endpoints) serve(ctx context.Context, handler http.Handler) error {
	if e.address == "" {
		return nil
	}
	l, err := e.listen(ctx)
	if ctx.Err() != nil {
		return nil
	}
	if err != nil {
		return err
	}
	return serve(ctx, l, handler)
}

// findings reports why the endpoints are not served.
func (e *endpoints) findings() []preflight.Finding {
	err := e.lacking.Load()
	if err == nil {
		return nil
	}
	return []preflight.Finding{{
		Check:   preflight.Listen,
		Problem: "the endpoints cannot be reached; enforcement unaffected: " + (*err).Error(),
		Remedy:  "stop the process that has taken the address, or give another one with --listen",
	}}
}
