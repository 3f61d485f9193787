// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/train"
	"github.com/netpold/netpold/watch/preflight"
)

// testPort: another process has the port of the endpoints. netpold still enforces, reports it, and serves them once the
// port is free.
func testPort(t *testing.T, program string) {
	netns.Enter(t)
	l, err := net.Listen("tcp", "127.0.0.1:9911") // on this thread, which is in the namespace
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := newDaemon(t, program, pause)
	d.write("world.yaml", train.World)
	d.write("permission.yaml", train.Permission)
	d.start()
	found := func() bool {
		return slices.ContainsFunc(d.report().Preflight, func(f preflight.Finding) bool {
			return f.Check == preflight.Listen && strings.Contains(f.Problem, "address already in use")
		})
	}
	if !found() {
		t.Errorf("not reported: %+v", d.report().Preflight)
	}
	_ = l.Close()
	d.await(`msg="serving /metrics`)
	if ready := (&ride{daemon: d}).metric("netpold_ready"); ready != 1 || found() {
		t.Errorf("ready: %d; %+v", ready, d.report().Preflight)
	}
}
