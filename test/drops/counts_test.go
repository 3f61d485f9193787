// SPDX-License-Identifier: Apache-2.0

package drops_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
)

const listen = "127.0.0.1:9911" // in the test's own namespace

// dropped asks netpold for netpold_dropped_packets_total, by "direction namespace".
func dropped(t *testing.T) map[string]int {
	t.Helper()
	return samples(t, regexp.MustCompile(
		`(?m)^netpold_dropped_packets_total\{direction="(.*)",namespace="(.*)",tier="NetworkPolicy"\} (.*)$`))
}

// samples asks netpold for the matching samples, by their first two labels.
func samples(t *testing.T, sample *regexp.Regexp) map[string]int {
	t.Helper()
	conn, err := net.Dial("tcp", listen) // not with package http, which dials from threads in other namespaces
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // of a test
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]int)
	for _, m := range sample.FindAllStringSubmatch(string(text), -1) {
		packets, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			t.Fatal(err)
		}
		found[m[1]+" "+m[2]] = int(packets)
	}
	return found
}

// testCounts: the totals are exact, whatever happens to pods, policies and the table.
func testCounts(t *testing.T, program string) { counts(t, program, "--own-table") }

// testCountsShared is testCounts with a table that others can change, and do.
func testCountsShared(t *testing.T, program string) { counts(t, program, "--own-table=false") }

func counts(t *testing.T, program, own string) {
	p := prober.New(t)
	d := start(t, program, "--listen", listen, own)
	shared := own == "--own-table=false"
	want := map[string]int{"ingress shop": 0, "egress shop": 0}
	step := func(what string) {
		t.Helper()
		for i := range 50 {
			for f := range web {
				for _, proto := range protocols[f] {
					send(t, p, false,
						prober.Probe{Src: external[f], Dst: db[f], Proto: proto, DstPort: uint16(10 + i)},
						prober.Probe{Src: locked[f], Dst: external[f], Proto: proto, DstPort: uint16(10 + i)})
					send(t, p, true, prober.Probe{Src: locked[f], Dst: web[f], Proto: proto, DstPort: uint16(10 + i)})
					want["egress shop"]++
					want["ingress shop"]++
				}
			}
		}
		got := dropped(t)
		if len(got) != len(want) || got["ingress shop"] != want["ingress shop"] ||
			got["egress shop"] != want["egress shop"] {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	step("at first")
	for i := range 3 {
		if !shared {
			break
		}
		netns.NFT(t, "", "add", "chain", "inet", "netpold", fmt.Sprint("stranger-", i))
		d.await(t, "in force again")
		d.await(t, "transaction")
		step("another table")
	}
	d.write(t, "policy.yaml", policy(1))
	d.await(t, "transaction")
	step("other rules")
	d.write(t, "policy.yaml", "")
	d.await(t, "transaction")
	step("another isolation")
	moved := strings.Replace(manifests, "name: db, namespace: shop", "name: gone, namespace: elsewhere", 1)
	d.write(t, "cluster.yaml", moved)
	d.await(t, "transaction")
	send(t, p, true, prober.Probe{Src: web[0], Dst: db[0], Proto: unix.IPPROTO_TCP, DstPort: 9})
	d.write(t, "cluster.yaml", manifests)
	d.await(t, "transaction")
	step("the pod gone and there again")
	d.stop(t)
}

// clusterPolicy denies UDP ports of shop/web to everybody, each by a rule.
func clusterPolicy(ports ...int) string {
	text := `apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {podSelector: {matchLabels: {app: web}}}}
  egress:
`
	for _, port := range ports {
		text += fmt.Sprintf("  - {action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}], "+
			"protocols: [{udp: {destinationPort: {number: %d}}}]}\n", port)
	}
	return text
}

// testRuleCounts: what each rule of a ClusterNetworkPolicy denies is counted exactly, whatever happens to the policy's
// other rules and the table.
func testRuleCounts(t *testing.T, program string) {
	p := prober.New(t)
	d := start(t, program, "--listen", listen, "--own-table=false")
	want := make(map[string]int)
	step := func(what string, ports ...int) {
		t.Helper()
		for rule, port := range ports {
			for f := range web {
				probe := prober.Probe{Src: web[f], Dst: external[f], Proto: unix.IPPROTO_UDP, DstPort: uint16(port)}
				for range 1 + rule {
					send(t, p, false, probe)
					want[fmt.Sprintf("egress %d", rule+1)]++
				}
			}
		}
		got := samples(t, regexp.MustCompile(`(?m)^netpold_cluster_policy_denied_packets_total\{direction="(.*)",`+
			`policy="guard",rule="(.*)",tier="Admin"\} (.*)$`))
		if !maps.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	write := func(ports ...int) {
		t.Helper()
		d.write(t, "guard.yaml", clusterPolicy(ports...))
		d.await(t, "transaction")
	}
	write(1, 2, 3)
	step("at first", 1, 2, 3)
	write(1, 4, 3)
	step("another port", 1, 4, 3)
	netns.NFT(t, "", "add", "chain", "inet", "netpold", "stranger")
	d.await(t, "in force again")
	d.await(t, "transaction")
	step("another table", 1, 4, 3)
	write(5)
	write(5, 6, 7)
	step("rules gone and there again", 5, 6, 7)
	d.write(t, "guard.yaml", "")
	d.await(t, "transaction")
	clear(want)
	step("no policy")
	d.stop(t)
}

// testFlood denies a million packets as fast as one thread can send them: each is counted, few are logged, and netpold
// uses little CPU.
func testFlood(t *testing.T, program string) {
	const packets, perBatch = 1_000_000, 1000
	for _, group := range []string{"0", "86"} {
		t.Run("group "+group, func(t *testing.T) {
			p := prober.New(t)
			d := start(t, program, "--listen", listen, "--log-group", group)
			probes := make([]prober.Probe, perBatch)
			for i := range probes {
				probes[i] = prober.Probe{Src: external[i%2], Dst: db[i%2], Proto: unix.IPPROTO_UDP,
					DstPort: uint16(1 + i)}
			}
			before, began, sent := usageOf(t, d.cmd.Process.Pid), time.Now(), threadTime(t)
			for range packets / perBatch {
				send(t, p, false, probes...)
			}
			elapsed, sent := time.Since(began), threadTime(t)-sent
			after := usageOf(t, d.cmd.Process.Pid)
			if got := dropped(t)["ingress shop"]; got != packets {
				t.Errorf("%d packets were counted, want %d", got, packets)
			}
			lines := len(d.stop(t))
			t.Logf("%d packets in %v, %v a packet; netpold: %.1f %% of a core, memory %d kB and then %d kB, %d lines",
				packets, elapsed.Round(time.Millisecond), sent/packets,
				100*(after.cpu-before.cpu).Seconds()/elapsed.Seconds(), before.memory, after.memory, lines)
			if limit := int(elapsed.Seconds()+10) * 130; lines > limit { // 100 a second, plus the policies' other lines
				t.Errorf("%d lines, more than %d", lines, limit)
			}
		})
	}
}

// usage is what a process has used.
type usage struct {
	cpu    time.Duration
	memory int // resident kB
}

func usageOf(t *testing.T, pid int) usage {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	const utime, stime, ticks = 11, 12, 100 // after the name; a second has 100 ticks on every architecture of Linux
	var u usage
	for _, field := range []int{utime, stime} {
		n, err := strconv.Atoi(fields[field])
		if err != nil {
			t.Fatal(err)
		}
		u.cpu += time.Duration(n) * time.Second / ticks
	}
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer status.Close() //nolint:errcheck // only read from
	for scanner := bufio.NewScanner(status); scanner.Scan(); {
		if text, ok := strings.CutPrefix(scanner.Text(), "VmRSS:"); ok {
			u.memory, _ = strconv.Atoi(strings.Fields(text)[0])
		}
	}
	return u
}

// threadTime is the CPU time of the calling thread, in which the kernel processes its packets.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}
