// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/netpold/netpold/test/harness/apiserver"
	"github.com/netpold/netpold/test/harness/cgroup"
	"github.com/netpold/netpold/watch"
)

// patience ends a test that is stuck; nothing is measured by it.
var patience = flag.Duration("patience", time.Minute, "how long a test waits for what does not happen")

// What netpold logs.
const (
	inForce     = `msg="policies are in force"`
	again       = `msg="table restored; policies are in force again"`
	transaction = "msg=transaction"
)

// A daemon is `netpold run` on a folder of manifests, in the network namespace of the test, which must be locked to its
// thread.
type daemon struct {
	t             *testing.T
	program, root string
	flags         []string
	idle          func()            // called repeatedly while waiting
	trap          *trap             // under which it runs, or nil
	server        *apiserver.Server // its source, or nil for a folder of manifests
	group         *cgroup.Group     // in which it starts, or nil
	env           []string

	process *exec.Cmd
	lines   chan string   // of its log; closed at its end
	ended   chan struct{} // closed when the process has ended
}

// newDaemon returns a daemon that is not started yet. idle is what the test does while it waits.
func newDaemon(t *testing.T, program string, idle func(), flags ...string) *daemon {
	t.Helper()
	d := &daemon{t: t, program: program, root: t.TempDir(), flags: flags, idle: idle}
	if err := os.Mkdir(d.folder(), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if d.process != nil {
			_ = d.process.Process.Kill()
			<-d.ended
		}
	})
	return d
}

// folder is the folder of the manifests.
func (d *daemon) folder() string { return filepath.Join(d.root, "manifests") }

// write writes a manifest in one step.
func (d *daemon) write(name, manifest string) {
	d.t.Helper()
	draft := filepath.Join(d.root, name)
	if err := os.WriteFile(draft, []byte(manifest), 0o644); err != nil {
		d.t.Fatal(err)
	}
	if err := os.Rename(draft, filepath.Join(d.folder(), name)); err != nil {
		d.t.Fatal(err)
	}
}

// start starts the daemon and returns when policies are in force.
func (d *daemon) start() {
	d.t.Helper()
	source := "--manifests=" + d.folder()
	if d.server != nil {
		name, err := d.server.Kubeconfig(d.root)
		if err != nil {
			d.t.Fatal(err)
		}
		source = "--kubeconfig=" + name
	}
	args := append([]string{"run", "--node=node-1", "--log-level=debug", source}, d.flags...)
	d.process = exec.Command(d.program, args...)
	d.process.Env = append(os.Environ(), d.env...)
	if d.group != nil {
		if err := d.group.Launch(d.process); err != nil {
			d.t.Fatal(err)
		}
	}
	d.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // the thread is the test's
	// The test's own pipe, which Wait must not close before everything is read.
	r, w, err := os.Pipe()
	if err != nil {
		d.t.Fatal(err)
	}
	d.process.Stderr = w
	serve := func() {}
	if d.trap != nil {
		serve = d.trap.launch(d.process)
	}
	if err := d.process.Start(); err != nil {
		d.t.Fatal(err)
	}
	_ = w.Close()
	lines, ended, process := make(chan string, 1<<16), make(chan struct{}), d.process
	go func() {
		defer close(ended)
		defer r.Close()
		for s := bufio.NewScanner(r); s.Scan(); {
			lines <- s.Text()
		}
		close(lines)
		_ = process.Wait()
	}()
	d.lines, d.ended = lines, ended
	serve()
	d.await(inForce)
	d.await(transaction)
}

// await returns the next line of the log that contains text.
func (d *daemon) await(text string) string {
	d.t.Helper()
	var log []string
	for deadline := time.Now().Add(*patience); ; {
		select {
		case line, open := <-d.lines:
			if !open {
				d.t.Fatalf("netpold ended before it logged %s:\n%s", text, strings.Join(log, "\n"))
			}
			if log = append(log, line); strings.Contains(line, text) {
				return line
			}
		default:
			if time.Now().After(deadline) {
				d.t.Fatalf("netpold did not log %s:\n%s", text, strings.Join(log, "\n"))
			}
			d.idle()
		}
	}
}

// signal sends a signal.
func (d *daemon) signal(s os.Signal) {
	d.t.Helper()
	if err := d.process.Process.Signal(s); err != nil {
		d.t.Fatalf("send %s: %v", s, err)
	}
}

// end ends the daemon by a signal and returns when it is gone.
func (d *daemon) end(s os.Signal) {
	d.t.Helper()
	d.signal(s)
	d.until(d.ended)
}

// until waits for done.
func (d *daemon) until(done <-chan struct{}) {
	d.t.Helper()
	for deadline := time.Now().Add(*patience); ; d.idle() {
		select {
		case <-done:
			return
		default:
			if time.Now().After(deadline) {
				d.t.Fatal("no end within the test's patience")
			}
		}
	}
}

// report returns the output of netpold status, which is run again if it times out on a slow machine.
func (d *daemon) report() watch.Report {
	d.t.Helper()
	for deadline := time.Now().Add(*patience); ; {
		var report watch.Report
		out, _ := d.run(exec.Command(d.program, "status", "-o", "json")) // fails while netpold is not in sync
		err := json.Unmarshal([]byte(out), &report)
		if err == nil {
			return report
		}
		if !strings.Contains(out, context.DeadlineExceeded.Error()) || time.Now().After(deadline) {
			d.t.Fatalf("netpold status: %v: %s", err, out)
		}
	}
}

// nft runs nft(8) in the namespace, as any other process would, and returns its output.
func (d *daemon) nft(args ...string) (string, error) {
	d.t.Helper()
	return d.run(exec.Command("nft", args...))
}

// run runs a command in the namespace and returns its output.
func (d *daemon) run(cmd *exec.Cmd) (string, error) {
	d.t.Helper()
	return d.runAnd(cmd, func() {})
}

// runAnd is run, and calls a function once the command has started.
func (d *daemon) runAnd(cmd *exec.Cmd, started func()) (string, error) {
	d.t.Helper()
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	started()
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		err = cmd.Wait()
	}()
	d.until(done)
	return out.String(), err
}

// mustNFT runs nft, which must succeed.
func (d *daemon) mustNFT(args ...string) {
	d.t.Helper()
	if out, err := d.nft(args...); err != nil {
		d.t.Fatalf("nft %s: %v: %s", strings.Join(args, " "), err, out)
	}
}

// pause is for tests that have nothing to do while they wait.
func pause() { time.Sleep(time.Millisecond) }
