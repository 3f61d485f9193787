// SPDX-License-Identifier: Apache-2.0

package drops_test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
)

// ask runs a netpold command in the namespace of the calling thread, and returns its output and exit status.
func ask(t *testing.T, program string, args ...string) (string, int) {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

// testCommands asks a running netpold what was blocked, and what decides, and compares the answers with packets.
func testCommands(t *testing.T, program string) {
	p := prober.New(t)
	d := start(t, program)
	expect := func(exit int, text string, args ...string) {
		t.Helper()
		out, got := ask(t, program, args...)
		if got != exit || !strings.Contains(out, text) {
			t.Errorf("netpold %s: exit %d, want %d:\n%s\nwant %q", strings.Join(args, " "), got, exit, out, text)
		}
	}
	expect(1, "", "drops")
	expect(1, "", "drops", "--top")

	denied := prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: 6379}
	allowed := prober.Probe{Src: web[1], Dst: db[1], Proto: unix.IPPROTO_TCP, DstPort: 5432}
	send(t, p, false, denied, denied, denied)
	send(t, p, true, allowed)
	d.await(t, "(10.1.0.2:6379)")
	expect(0, "to shop/db (10.1.0.2:6379) blocked: ingress of shop/db is isolated by shop/db-allow", "drops")
	expect(0, "to shop/db (10.1.0.2:6379) blocked", "drops", "--namespace", "shop")
	expect(1, "", "drops", "-n", "elsewhere")
	expect(1, "", "drops", "-n", "elsewhere", "--top")
	expect(0, "ingress    shop/web  shop/db:6379  tcp", "drops", "--top")
	out, _ := ask(t, program, "drops", "-o", "json")
	var line struct {
		Direction string
		Dst       struct {
			Pod, Owner string
			Port       int
		}
	}
	if err := json.Unmarshal([]byte(out), &line); err != nil || line.Dst.Pod != "shop/db" ||
		line.Dst.Owner != "StatefulSet/db" || line.Dst.Port != 6379 {
		t.Errorf("%v: %s", err, out)
	}

	expect(1, "denied: isolated by shop/db-allow, shop/db-none; no rule allows it", "explain", "shop/web",
		"shop/db:6379")
	expect(0, "allowed by shop/db-allow spec.ingress[0]", "explain", "shop/web", "shop/db:5432")
	expect(0, "has the element, the rule has handle", "explain", "--verify", "shop/web", "shop/db:5432")
	expect(1, "verdict: drop", "explain", "--rules", "198.51.100.7", "shop/db:5432")
	expect(2, "no pod shop/nobody", "explain", "shop/nobody", "shop/db:5432")
	d.stop(t)
	expect(2, "no daemon answers in this network namespace", "explain", "shop/web", "shop/db:5432")
	expect(2, "no daemon answers in this network namespace", "drops")
}

// testVerify: after somebody has changed the table and the daemon has repaired it, explain --verify finds everything in
// the kernel. TestVerify in test/kernel tests what it says before the repair.
func testVerify(t *testing.T, program string) {
	prober.New(t)
	d := start(t, program, "--own-table=false")
	for range 3 {
		netns.NFT(t, "", "delete element inet netpold ingress-pods-4 { 10.1.0.2 }")
		d.await(t, "in force again")
		d.await(t, "transaction")
		text, exit := ask(t, program, "explain", "--verify", "shop/web", "shop/db:5432")
		if exit != 0 || strings.Contains(text, "DIFFERS") ||
			!strings.Contains(text, "has the element, the rule has handle") {
			t.Errorf("after the recovery: exit %d:\n%s", exit, text)
		}
	}
	d.stop(t)
}
