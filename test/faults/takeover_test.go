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

// testTakeover replaces netpold with another build, whose options make another table of the same policies, and back.
func testTakeover(t *testing.T, program string) {
	other := filepath.Join(t.TempDir(), "netpold")
	build(t, other, "-ldflags=-s -w")
	takeTurns(t,
		version{"this build", program, 86, nil},
		version{"another build", other, 87, []string{"--established=recheck", "--deny=reject", "--log-group=87"}})
}

// lastRelease is the commit of 0.2.0, until there is a tag.
const lastRelease = "a783b33"

// testUpgrade replaces the last release with this version, and back.
func testUpgrade(t *testing.T, program string) {
	takeTurns(t,
		version{"this version", program, 86, nil},
		version{"the last release", lastProgram(t), 87, []string{"--log-group=87"}})
}

// lastProgram builds the last release and returns its program.
func lastProgram(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	archive := filepath.Join(dir, "source.tar")
	out, err := exec.Command("git", "-C", "../..", "archive", "--output="+archive, lastRelease).CombinedOutput()
	if err != nil {
		t.Skipf("the commit %s of the last release is missing, as in a shallow clone: %v\n%s", lastRelease, err, out)
	}
	source, program := filepath.Join(dir, "source"), filepath.Join(dir, "netpold")
	for _, args := range [][]string{
		{"mkdir", source}, {"tar", "-C", source, "-xf", archive},
		{"go", "build", "-C", source, "-buildvcs=false", "-o", program, "./cmd/netpold"},
	} {
		if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	return program
}

// version is a program that can take over, and the nfnetlink_log group that its options name.
type version struct {
	name, program string
	group         int
	flags         []string
}

// takeTurns replaces one version with the other, and back, while packets pass.
func takeTurns(t *testing.T, first, second version) {
	versions := []version{first, second}
	for name, signal := range map[string]os.Signal{"SIGTERM": syscall.SIGTERM, "kill -9": syscall.SIGKILL} {
		for _, own := range []string{"--own-table", "--own-table=false"} {
			t.Run(name+" "+own, func(t *testing.T) {
				r := newRide(t, first.program, own)
				for i := range 6 {
					next := versions[(i+1)%2]
					r.next()
					r.tooEarly(next.program)
					r.train.Unharmed(next.name+" takes over", func() {
						r.end(signal)
						r.program, r.flags = next.program, append(next.flags, own)
						r.start()
					})
					if groups := logGroups(r.daemon); len(groups) != 1 || !groups[fmt.Sprint(next.group)] {
						t.Errorf("the table logs to groups %v, want those of the new version, %d", groups, next.group)
					}
				}
			})
		}
	}
}

// tooEarly starts a program while the old one is running; it must refuse.
func (r *ride) tooEarly(program string) {
	r.t.Helper()
	out, err := r.run(exec.Command(program, "run", "--node=node-1", "--log-group=99", "--manifests="+r.folder()))
	if err == nil || !strings.Contains(out, "on this node (in this network namespace)") {
		r.t.Errorf("a second netpold on the node: %v: %s", err, out)
	}
}

// logGroups returns the nfnetlink_log groups in the table's rules.
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
