// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// testTakeover replaces netpold by another build, whose options make another table of the same policies, and that by
// the first again.
func testTakeover(t *testing.T, program string) {
	other := filepath.Join(t.TempDir(), "netpold")
	build(t, other, "-ldflags=-s -w")
	versions := []struct {
		program string
		group   int
		flags   []string
	}{
		{program, 86, nil},
		{other, 87, []string{"--established=recheck", "--deny=reject", "--log-group=87"}},
	}
	for name, signal := range map[string]os.Signal{"SIGTERM": syscall.SIGTERM, "kill -9": syscall.SIGKILL} {
		for _, own := range []string{"--own-table", "--own-table=false"} {
			t.Run(name+" "+own, func(t *testing.T) {
				r := newRide(t, program, own)
				r.train.Unharmed("6 times another version takes over", func() {
					for i := range 6 {
						next := versions[(i+1)%2]
						r.next()
						r.tooEarly(next.program)
						r.end(signal)
						r.program, r.flags = next.program, append(next.flags, own)
						r.start()
						if groups := logGroups(r.daemon); len(groups) != 1 || !groups[fmt.Sprint(next.group)] {
							t.Errorf("the table logs to groups %v, want those of the new version, %d",
								groups, next.group)
						}
					}
				})
			})
		}
	}
}

// tooEarly starts a program while the old one runs, which it may not.
func (r *ride) tooEarly(program string) {
	r.t.Helper()
	out, err := r.run(exec.Command(program, "run", "--node=node-1", "--log-group=99", "--manifests="+r.folder()))
	if err == nil || !strings.Contains(out, "another netpold runs on this node") {
		r.t.Errorf("a second netpold on the node: %v: %s", err, out)
	}
}

// logGroups returns the nfnetlink_log groups that the table's rules have.
func logGroups(d *daemon) map[string]bool {
	d.t.Helper()
	groups := make(map[string]bool)
	words := strings.Fields(listing(d.t, d))
	for i, w := range words {
		if w == "group" {
			groups[words[i+1]] = true
		}
	}
	return groups
}
