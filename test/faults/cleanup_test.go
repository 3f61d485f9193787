// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate/frame"
)

// testCleanup deletes the tables on a kernel that refuses everything except that and reading the node's lock.
func testCleanup(t *testing.T, program string) {
	netns.Enter(t)
	d, p := newDaemon(t, program, pause), &trap{t: t}
	tables := []string{frame.TableName, frame.HandoverTable}
	for _, table := range tables {
		d.mustNFT("add", "table", "inet", table)
	}
	sent := 1 + len(tables)
	p.set(fault{errno: unix.EOPNOTSUPP, at: func(n int) bool { return n >= sent }})
	cleanup := exec.Command(program, "cleanup")
	serve := p.launch(cleanup)
	out, err := d.runAnd(cleanup, serve)
	if failed, sends := p.clear(); err != nil || failed > 0 || sends != sent {
		t.Errorf("netpold cleanup sends %d messages, %d of which fail: %v: %s", sends, failed, err, out)
	}
	if left, _ := d.nft("list", "tables"); left != "" {
		t.Errorf("it leaves %s", left)
	}
}
