// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/test/harness/train"
)

// podRanges contains the pods of the train's node, and nothing else.
const podRanges = "--pod-ranges=10.0.1.0/24,fd00:1::/64"

// testGuard sends packets of unknown pods while netpold is killed, is down and takes over again, and while a later one
// only keeps the guard. None passes, no packet of the train is lost, and a pod's packets pass once netpold knows of it.
func testGuard(t *testing.T, program string) {
	p := prober.New(t)
	tr := train.New(t, p)
	var unknown []prober.Probe
	for _, pair := range [][2]string{
		{"10.0.1.77", "10.0.2.1"}, {"10.0.2.1", "10.0.1.77"}, {"10.0.1.77", "10.0.1.2"}, {"10.0.1.2", "10.0.1.77"},
		{"fd00:1::77", "fd00:2::1"}, {"fd00:2::1", "fd00:1::77"},
	} {
		unknown = append(unknown, prober.Probe{Src: netip.MustParseAddr(pair[0]), Dst: netip.MustParseAddr(pair[1]),
			Proto: unix.IPPROTO_TCP, DstPort: 80})
	}
	probes, leaked := 0, 0
	ask := func() {
		passed, err := p.Run(unknown)
		if err != nil {
			t.Fatal(err)
		}
		for _, passes := range passed {
			probes++
			if passes {
				leaked++
			}
		}
	}
	step := func() { tr.Step(); ask() }
	d := newDaemon(t, program, step, "--unknown-pods=deny", podRanges)
	d.write("world.yaml", train.World)
	d.write("permission.yaml", train.Permission)
	d.start()
	probes, leaked = 0, 0
	for round := range 4 {
		if round == 2 { // as with a container runtime that has not reported a pod since
			d.flags = []string{"--unknown-pods=auto", podRanges}
		}
		tr.Unharmed("netpold is killed and comes back", func() {
			d.end(syscall.SIGKILL)
			for range 5 {
				step()
			}
			d.start()
		})
	}
	t.Logf("%d packets of unknown pods, %d of them passed", probes, leaked)
	if leaked > 0 {
		t.Errorf("%d packets of unknown pods passed", leaked)
	}
	late := strings.NewReplacer("name: web", "name: late", "app: web", "app: late", "10.0.1.1", "10.0.1.77",
		"fd00:1::1", "fd00:1::77")
	for document := range strings.SplitSeq(train.World, "---") {
		if strings.Contains(document, "name: web") {
			d.write("late.yaml", late.Replace(document))
		}
	}
	d.await(transaction)
	leaked = 0
	if ask(); leaked != len(unknown) {
		t.Errorf("of %d packets of a new pod, %d pass", len(unknown), leaked)
	}
}
