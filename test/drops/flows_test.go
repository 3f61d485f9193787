// SPDX-License-Identifier: Apache-2.0

package drops_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/translate/flows"
)

// observed returns the flows that netpold reports, as "from > to service verdict count", sorted.
func observed(t *testing.T, program string, args ...string) []string {
	t.Helper()
	out, exit := ask(t, program, append([]string{"flows", "-o", "json"}, args...)...)
	all, err := flows.Read(strings.NewReader(out))
	if err != nil || exit == 2 {
		t.Fatalf("exit %d, %v: %s", exit, err, out)
	}
	texts := make([]string, 0, len(all))
	for _, f := range all {
		texts = append(texts, fmt.Sprintf("%s > %s %s %s %d", f.From, f.To, f.Service(), f.Verdict, f.Count))
	}
	slices.Sort(texts)
	return texts
}

// expectFlows compares the flows that netpold reports with what was sent.
func expectFlows(t *testing.T, program string, want ...string) {
	t.Helper()
	want = slices.Sorted(slices.Values(want))
	if got := observed(t, program); !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// testFlows: a running netpold reports who connected to whom, with the verdicts and names of that time, including flows
// counted before it started, and before its table was replaced.
func testFlows(t *testing.T, program string) {
	p := prober.New(t)
	d := start(t, program)
	if out, exit := ask(t, program, "flows"); exit != 2 || !strings.Contains(out, "start it with --observe") {
		t.Errorf("without --observe: exit %d: %s", exit, out)
	}
	d.stop(t)

	d = start(t, program, "--observe", "--own-table=false")
	expectFlows(t, program)
	if out, exit := ask(t, program, "flows"); exit != 1 || out != "" {
		t.Errorf("of no flows: exit %d: %s", exit, out)
	}
	good := prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: 5432}
	bad := prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: 6379}
	out := prober.Probe{Src: locked[1], Dst: external[1], Proto: unix.IPPROTO_ICMPV6}
	send(t, p, true, good, good)
	send(t, p, false, bad, out)
	want := []string{"shop/web > shop/db TCP 5432 allowed 2", "shop/web > shop/db TCP 6379 denied 1",
		"shop/locked > 2001:db8::7 ICMPv6 denied 1"}
	expectFlows(t, program, want...)
	testFlowsText(t, program)

	d.write(t, "policy.yaml", policy(6379))
	d.await(t, "transaction")
	send(t, p, false, good)
	send(t, p, true, bad)
	want = append(want, "shop/web > shop/db TCP 5432 denied 1", "shop/web > shop/db TCP 6379 allowed 1")
	expectFlows(t, program, want...)

	netns.NFT(t, "", "delete", "table", "inet", "netpold")
	d.await(t, "in force again")
	send(t, p, true, bad)
	want[4] = "shop/web > shop/db TCP 6379 allowed 2"
	expectFlows(t, program, want...)
	d.stop(t)

	send(t, p, true, bad) // while no netpold runs
	d = start(t, program, "--observe", "--own-table=false", "--observe-max=3")
	want = []string{"shop/web > shop/db TCP 6379 allowed 2"} // the deleted table's counts are lost
	expectFlows(t, program, want...)
	testFlowsGone(t, p, program, d)
	d.stop(t)
}

// testFlowsText: the text output, also filtered by namespace or time.
func testFlowsText(t *testing.T, program string) {
	t.Helper()
	testFlowsPage(t, program)
	out, exit := ask(t, program, "flows", "-n", "shop", "--since", "1h")
	if exit != 0 || strings.Count(out, "\n") != 4 {
		t.Errorf("exit %d: %s", exit, out)
	}
	for _, args := range [][]string{{"-n", "elsewhere"}, {"--since", "1ns"}} {
		if out, exit := ask(t, program, append([]string{"flows"}, args...)...); exit != 1 || out != "" {
			t.Errorf("%v: exit %d: %s", args, exit, out)
		}
	}
	if out, exit := ask(t, program, "explain", "--verify", "shop/web", "shop/db:5432"); exit != 0 ||
		!strings.Contains(out, "has the element, the rule has handle") || strings.Contains(out, "DIFFERS") ||
		strings.Contains(out, "observe") {
		t.Errorf("explain --verify: exit %d: %s", exit, out)
	}
}

// testFlowsPage: netpold prints what docs/flows.md shows, except for the times.
func testFlowsPage(t *testing.T, program string) {
	t.Helper()
	page, err := os.ReadFile("../../docs/flows.md")
	if err != nil {
		t.Fatal(err)
	}
	times := regexp.MustCompile(`\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?`)
	out, shown := "", 0
	for line := range strings.Lines(string(page)) {
		text, block := strings.CutPrefix(strings.TrimSpace(line), "$ netpold ")
		switch {
		case block:
			out, _ = ask(t, program, strings.Fields(text)...)
			out = times.ReplaceAllString(out, "TIME")
		case out != "" && strings.HasPrefix(line, "    ") && text != "…":
			shown++
			if !strings.Contains(out, times.ReplaceAllString(text, "TIME")+"\n") {
				t.Errorf("the page says\n%s\nnetpold prints\n%s", text, out)
			}
		case text != "…":
			out = ""
		}
	}
	if shown != 6 {
		t.Errorf("the page shows %d lines", shown)
	}
}

// testFlowsGone: a pod that is gone when its flow is read keeps its name, followers see new flows, and flows that the
// kernel has no room for are reported.
func testFlowsGone(t *testing.T, p *prober.Prober, program string, d *daemon) {
	t.Helper()
	follow := exec.Command(program, "flows", "--follow", "-o", "json")
	follow.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := follow.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := follow.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	next := func() (f flows.Flow) {
		t.Helper()
		if !lines.Scan() {
			t.Fatal("no line")
		}
		if err := json.Unmarshal(lines.Bytes(), &f); err != nil {
			t.Error(err)
		}
		return f
	}
	if f := next(); f.To.Pod != "shop/db" || f.To.Workload != "StatefulSet/db" || f.Node != "node" {
		t.Errorf("%+v", f)
	}
	probe := prober.Probe{Src: web[1], Dst: external[1], Proto: unix.IPPROTO_UDP, DstPort: 53}
	send(t, p, true, probe)
	if err := os.Remove(filepath.Join(d.dir, "cluster.yaml")); err != nil {
		t.Fatal(err)
	}
	d.await(t, "transaction")
	if f := next(); f.From.Pod != "shop/web" || f.From.Labels["app"] != "web" || f.To.Pod != "" || f.Port != 53 {
		t.Errorf("%+v", f)
	}
	if err := follow.Process.Signal(syscall.SIGTERM); err != nil || follow.Wait() != nil {
		t.Error("following ends with an error", err)
	}
	d.write(t, "cluster.yaml", manifests)
	d.await(t, "transaction")
	for port := range uint16(5) {
		probe.DstPort = 60 + port
		send(t, p, true, probe)
	}
	if out, _ := ask(t, program, "flows", "--since", "1h"); strings.Count(out, "UDP") != 3 {
		t.Errorf("%s", out)
	}
	if l, _ := d.await(t, "set of flows is full"); l.Level != "WARN" {
		t.Errorf("%+v", l)
	}
	if out, _ := ask(t, program, "status"); !strings.Contains(out, "; 3 connections not counted: the set was full") {
		t.Errorf("%s", out)
	}
}
