// SPDX-License-Identifier: Apache-2.0

// Package drops runs the netpold program on the real kernel and compares what it reports about denied packets with what
// was sent.
package drops_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/nft/nflog"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// shop/db is isolated for ingress, shop/locked for egress, shop/web is not isolated.
const manifests = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {nodeName: node, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.1.0.1}, {ip: "fd00:1::1"}]}
---
apiVersion: v1
kind: Pod
metadata:
  {name: db, namespace: shop, labels: {app: db},
   ownerReferences: [{apiVersion: apps/v1, kind: StatefulSet, name: db, uid: a, controller: true}]}
spec: {nodeName: node, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.1.0.2}, {ip: "fd00:1::2"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: locked, namespace: shop, labels: {app: locked}}
spec: {nodeName: node, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.1.0.3}, {ip: "fd00:1::3"}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-none, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: locked, namespace: shop}
spec:
  podSelector: {matchLabels: {app: locked}}
  policyTypes: [Egress]
  egress: [{to: [{podSelector: {matchLabels: {app: web}}}]}]
---
`

// policy allows shop/web to reach shop/db on a TCP port.
func policy(port uint16) string {
	return fmt.Sprintf(`apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db-allow, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: %d}]}]
`, port)
}

// line is a line of netpold's log.
type line struct {
	Level, Msg, Direction, Protocol, Src, Dst string
	SrcPod, DstPod, DstOwner                  string
	DstPort                                   uint16
	Policies                                  []string
	Count                                     int
}

// daemon is a running netpold.
type daemon struct {
	dir   string
	cmd   *exec.Cmd
	lines chan line
	begin []line // before the first transaction
}

// start runs netpold in the namespace of the calling thread.
func start(t *testing.T, program string, args ...string) *daemon {
	t.Helper()
	d := &daemon{dir: t.TempDir(), lines: make(chan line, 10_000)}
	d.write(t, "cluster.yaml", manifests)
	d.write(t, "policy.yaml", policy(5432))
	args = append([]string{"run", "--manifests", d.dir, "--node", "node", "--listen", "", "--log-format", "json",
		"--log-level", "debug"}, args...)
	d.cmd = exec.Command(program, args...)
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.lines)
		for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
			var l line
			if err := json.Unmarshal(scanner.Bytes(), &l); err != nil {
				l.Msg = scanner.Text()
			}
			d.lines <- l
		}
	}()
	t.Cleanup(func() { _ = d.cmd.Process.Kill() })
	_, d.begin = d.await(t, "transaction")
	return d
}

// write replaces a manifest.
func (d *daemon) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

// await returns the first line with the text, and the lines before it.
func (d *daemon) await(t *testing.T, text string) (line, []line) {
	t.Helper()
	var before []line
	for deadline := time.After(20 * time.Second); ; {
		select {
		case l, open := <-d.lines:
			if !open {
				t.Fatalf("netpold ended before %q: %v", text, before)
			}
			if strings.Contains(l.Msg, text) {
				return l, before
			}
			before = append(before, l)
		case <-deadline:
			t.Fatalf("no line has %q: %v", text, before)
		}
	}
}

// stop ends netpold and returns the rest of the lines.
func (d *daemon) stop(t *testing.T) []line {
	t.Helper()
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var rest []line
	for l := range d.lines {
		rest = append(rest, l)
	}
	if err := d.cmd.Wait(); err != nil {
		t.Error(err)
	}
	return rest
}

func send(t *testing.T, p *prober.Prober, want bool, probes ...prober.Probe) {
	t.Helper()
	got, err := p.Run(probes)
	if err != nil {
		t.Fatal(err)
	}
	for i, q := range probes {
		if got[i] != want {
			t.Errorf("%s: forwarded: %t", q, got[i])
		}
	}
}

// TestDrops builds the program once for all.
func TestDrops(t *testing.T) {
	program := filepath.Join(t.TempDir(), "netpold")
	if out, err := exec.Command("go", "build", "-o", program,
		"github.com/netpold/netpold/cmd/netpold").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for name, test := range map[string]func(*testing.T, string){
		"lines": testLines, "repeats": testRepeats, "policies change": testChange, "group is taken": testBusy,
		"no group":        testNoGroup,
		"counts of rules": testRuleCounts,
		"counts":          testCounts, "counts, shared table": testCountsShared, "flood": testFlood,
		"commands": testCommands,
		"verify":   testVerify,
		"impostor": testImpostor, "two": testTwo, "older": testOlder, "flows": testFlows,
	} {
		t.Run(name, func(t *testing.T) { test(t, program) })
	}
}

var (
	web      = []netip.Addr{netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("fd00:1::1")}
	db       = []netip.Addr{netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("fd00:1::2")}
	locked   = []netip.Addr{netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("fd00:1::3")}
	external = []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")}
)

// protocols are the prober's protocols, by family.
var protocols = [2][]uint8{
	{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_ICMP},
	{unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_SCTP, unix.IPPROTO_ICMPV6},
}

// kinds are how the lines begin, in the order of protocols.
var kinds = [2][]string{
	{"TCP connection", "UDP packet", "SCTP packet", "ICMP echo request"},
	{"TCP connection", "UDP packet", "SCTP packet", "ICMPv6 echo request"},
}

// testLines sends every protocol, family and direction: a denied packet gets a line with the right names, an allowed
// one gets none.
func testLines(t *testing.T, program string) {
	p := prober.New(t)
	d := start(t, program)
	type expected struct {
		line
		parts []string
	}
	var allowed, denied []prober.Probe
	var want []expected
	for family, protos := range protocols {
		for i, proto := range protos {
			const port = 6379
			probe := func(src, dst []netip.Addr) prober.Probe {
				return prober.Probe{Src: src[family], Dst: dst[family], Proto: proto, DstPort: port,
					SrcPort: uint16(20000 + 10*i + family)}
			}
			allowed = append(allowed, probe(external, web), probe(web, external), probe(locked, web),
				probe(db, external))
			service := ":6379"
			l := line{Level: "INFO", Direction: "ingress", DstPod: "shop/db", DstOwner: "StatefulSet/db",
				Dst:      db[family].String(),
				Policies: []string{"shop/db-allow", "shop/db-none"}, DstPort: port, Count: 1}
			if l.Protocol = []string{"tcp", "udp", "sctp", []string{"icmp", "ipv6-icmp"}[family]}[i]; i == 3 {
				l.DstPort, service = 0, ""
			}
			const ingress = "blocked: ingress of shop/db is isolated by shop/db-allow, shop/db-none and no rule " +
				"allows it (nearest: shop/db-allow spec.ingress[0]: it allows "
			const egress = "blocked: egress of shop/locked is isolated by shop/locked and no rule allows it " +
				"(nearest: shop/locked spec.egress[0]: its peers do not include "
			fromWeb, fromOutside, toOutside := l, l, l
			fromWeb.Src, fromWeb.SrcPod = web[family].String(), "shop/web"
			fromOutside.Src = external[family].String()
			toOutside.Direction, toOutside.Src, toOutside.SrcPod, toOutside.Policies = "egress",
				locked[family].String(), "shop/locked", []string{"shop/locked"}
			toOutside.Dst, toOutside.DstPod, toOutside.DstOwner = external[family].String(), "", ""
			denied = append(denied, probe(web, db), probe(external, db), probe(locked, external))
			begin := kinds[family][i] + " from "
			host := func(a []netip.Addr) string {
				if service != "" && family == 1 {
					return "[" + a[1].String() + "]"
				}
				return a[family].String()
			}
			want = append(want,
				expected{fromWeb, []string{begin + "shop/web (" + host(web),
					"to shop/db (" + host(db) + service + ") " + ingress + "TCP 5432, not "}},
				expected{fromOutside, []string{begin + host(external),
					" (external) to shop/db (" + host(db) + service + ") blocked: ingress of shop/db"}},
				expected{toOutside, []string{begin + "shop/locked (" + host(locked),
					" to " + host(external) + service + " (external) " + egress + external[family].String()}},
			)
		}
	}
	allowed = append(allowed, prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: 5432},
		prober.Probe{Src: web[1], Dst: db[1], Proto: unix.IPPROTO_TCP, DstPort: 5432})
	send(t, p, true, allowed...)
	send(t, p, false, denied...)
	_, got := d.await(t, kinds[1][3]+" from shop/locked")
	got = append(got, d.stop(t)...)
	got = slices.DeleteFunc(got, func(l line) bool { return !strings.Contains(l.Msg, "blocked: ") })
	if len(got) != len(want)-1 { // await took the last
		t.Errorf("%d lines, want %d", len(got), len(want)-1)
	}
	for i := range min(len(got), len(want)) {
		l := got[i]
		for _, part := range want[i].parts {
			if !strings.Contains(l.Msg, part) {
				t.Errorf("line\n%s\nlacks\n%s", l.Msg, part)
			}
		}
		l.Msg = ""
		if fmt.Sprint(l) != fmt.Sprint(want[i].line) {
			t.Errorf("line\n%+v, want\n%+v", l, want[i].line)
		}
	}
}

// testRepeats: a retry loop gets one line at once and one at its end.
func testRepeats(t *testing.T, program string) {
	p := prober.New(t)
	d := start(t, program)
	probe := prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: 6379}
	for range 20 {
		send(t, p, false, probe)
	}
	if l, _ := d.await(t, " blocked: "); l.Count != 1 {
		t.Errorf("first line: %+v", l)
	}
	l, before := d.await(t, "; 19 more in ")
	if l.Count != 19 || len(before) > 0 {
		t.Errorf("line: %+v, before it %+v", l, before)
	}
	d.stop(t)
}

// testChange: a record is read some time after the drop, when the policies may have changed.
func testChange(t *testing.T, program string) {
	p := prober.New(t)
	d := start(t, program)
	late := 0
	for i := range 10 {
		port := uint16(7000 + i)
		probe := prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: port}
		send(t, p, false, probe)
		d.write(t, "policy.yaml", policy(port))
		l, before := d.await(t, fmt.Sprintf("(10.1.0.2:%d)", port))
		if !slices.ContainsFunc(before, func(l line) bool { return l.Msg == "transaction" }) {
			d.await(t, "transaction")
		}
		if strings.Contains(l.Msg,
			"was blocked: ingress of shop/db was isolated by shop/db-allow, shop/db-none; the current "+
				"policies allow it") {
			late++
		} else if !strings.Contains(l.Msg, " blocked: ingress of shop/db is isolated") {
			t.Errorf("line %s", l.Msg)
		}
		send(t, p, true, probe)
	}
	if late == 0 {
		t.Error("no policy changed between drop and line")
	}
	for _, l := range d.stop(t) {
		if strings.Contains(l.Msg, "blocked") {
			t.Errorf("line about allowed traffic: %s", l.Msg)
		}
	}
}

// testBusy: if another process reads the group, the policies are still enforced, and netpold says that drop lines are
// missing; when the group is free again, lines resume.
func testBusy(t *testing.T, program string) {
	p := prober.New(t)
	other, err := nflog.Open(86)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	d := start(t, program)
	warned := func(l line) bool { return l.Level == "WARN" && strings.Contains(l.Msg, "drop logging stopped") }
	if !slices.ContainsFunc(d.begin, warned) {
		t.Errorf("no warning: %+v", d.begin)
	}
	denied := prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: 6379}
	send(t, p, false, denied)
	send(t, p, true, prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: 5432})
	if out, exit := ask(t, program, "status"); exit != 0 || !strings.Contains(out, "Drop lines:        missing for") {
		t.Errorf("while the group is taken: exit %d:\n%s", exit, out)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	_, before := d.await(t, "drop logging resumed")
	for _, l := range before {
		if strings.Contains(l.Msg, "blocked") || warned(l) {
			t.Errorf("line: %s", l.Msg)
		}
	}
	send(t, p, false, denied)
	d.await(t, "(10.1.0.2:6379)")
	if out, _ := ask(t, program, "status"); strings.Contains(out, "Drop lines") {
		t.Errorf("when the group is free:\n%s", out)
	}
	d.stop(t)
}

// testNoGroup: without a group there are no lines and no warnings.
func testNoGroup(t *testing.T, program string) {
	p := prober.New(t)
	d := start(t, program, "--log-group", "0")
	send(t, p, false, prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: 6379})
	if groups, err := os.ReadFile("/proc/thread-self/net/netfilter/nfnetlink_log"); err != nil || len(groups) > 0 {
		t.Errorf("a group is being read: %v\n%s", err, groups)
	}
	for _, l := range d.stop(t) {
		if strings.Contains(l.Msg, "blocked") || strings.Contains(l.Msg, "told") {
			t.Errorf("line: %s", l.Msg)
		}
	}
}
