// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// refused is what netpold logs when the kernel refuses a transaction.
const refused = `msg="transaction failed; the last state stays in force, retrying with the whole table"`

// testNetlink makes netlink calls of the real binary fail.
func testNetlink(t *testing.T, program string) {
	for _, own := range []string{"--own-table", "--own-table=false"} {
		t.Run(own, func(t *testing.T) { netlinkFails(t, program, own) })
	}
}

func netlinkFails(t *testing.T, program, own string) {
	p := &trap{t: t}
	r := newRideUnder(t, program, p, own)
	always := func(int) bool { return true }
	for _, f := range []struct {
		name string
		fault
	}{
		{"ENOBUFS when netpold sends", fault{errno: unix.ENOBUFS, at: always}},
		{"EPERM when netpold sends", fault{errno: unix.EPERM, at: always}},
		{"ENOBUFS in place of the kernel's answers", fault{errno: unix.ENOBUFS, answers: true, at: always}},
	} {
		before := r.recoveries("transaction")
		r.train.Unharmed(f.name, func() { r.outage(p, f.fault) })
		if after := r.recoveries("transaction"); after <= before {
			t.Errorf("%s: netpold_recoveries_total{reason=\"transaction\"} is %d before and %d after",
				f.name, before, after)
		}
		same(t, r.daemon)
	}
	r.train.Unharmed("each step of a replacement fails once", func() { r.steps(p) })
	same(t, r.daemon)
}

// outage makes netlink fail until netpold has logged it a few times, while policies change.
func (r *ride) outage(p *trap, f fault) {
	r.t.Helper()
	p.set(f)
	for range 3 {
		r.next()
		if line := r.await(refused); !strings.Contains(line, f.errno.Error()) && !f.answers {
			r.t.Errorf("netpold does not log %q: %s", f.errno, line)
		}
	}
	out, err := r.run(exec.Command(r.program, "status", "-o", "json"))
	var report struct {
		InSync          bool
		LastTransaction struct{ Error string }
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 1 {
		r.t.Errorf("netpold status: %v, want exit status 1", err)
	} else if err := json.Unmarshal([]byte(out), &report); err != nil || report.InSync ||
		report.LastTransaction.Error == "" {
		r.t.Errorf("netpold status: %v: %s", err, out)
	}
	failed, _ := p.clear()
	r.t.Logf("%d calls failed with %v", failed, f.errno)
	r.await(again)
}

// steps makes a change fail, and then the n-th message of the replacement that follows, for each n that there is.
func (r *ride) steps(p *trap) {
	r.t.Helper()
	for _, f := range []fault{{errno: unix.ENOBUFS}, {errno: unix.ENOBUFS, answers: true}} {
		n, sends := 1, 2
		for ; n < sends; n++ {
			f.at = func(i int) bool { return i == 0 || i == n }
			p.set(f)
			r.next()
			r.await(refused)
			r.await(again)
			_, sends = p.clear()
		}
		r.t.Logf("a change and its recovery took %d messages; each but the first failed once, answers lost: %t",
			sends, f.answers)
	}
}

// recoveries returns netpold_recoveries_total of a reason.
func (r *ride) recoveries(reason string) int {
	r.t.Helper()
	return r.metric(`netpold_recoveries_total{reason="` + reason + `"}`)
}

// metric returns the value of a metric.
func (r *ride) metric(name string) (n int) {
	r.t.Helper()
	conn, err := net.Dial("tcp", "127.0.0.1:9911") // on this thread, which is in the namespace
	if err != nil {
		r.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
		r.t.Fatal(err)
	}
	for s := bufio.NewScanner(conn); s.Scan(); {
		if _, err := fmt.Sscanf(s.Text(), name+" %d", &n); err == nil {
			return n
		}
	}
	r.t.Fatal("no metric ", name)
	return 0
}
