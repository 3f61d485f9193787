// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/netpold/netpold/test/harness/netns"
)

// Lines of the files about routes, as on a little-endian machine.
const (
	uplink4 = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
	bridge4  = "cni0\t0002F40A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
	nowhere4 = "*\t0000080A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"

	none    = "00000000000000000000000000000000"
	uplink6 = none + " 00 " + none +
		" 00 fd000000000000000000000000000001 00000400 00000003 00000000 00000003     eth0\n" +
		"fd000000000000000000000000000000 40 " + none + " 00 " + none +
		" 00000100 00000001 00000000 00000001     eth0\n"
	bridge6 = "fd010000000000000000000000000000 40 " + none + " 00 " + none +
		" 00000100 00000001 00000000 00000001     cni0\n"
	pod6 = "fd020000000000000000000000000007 80 " + none + " 00 " + none +
		" 00000100 00000001 00000000 00000001     cali7\n"
	own6 = none + " 00 " + none + " 00 " + none + " ffffffff 00000001 00000000 00200200       lo\n" +
		"fe800000000000000000000000000000 40 " + none + " 00 " + none +
		" 00000100 00000001 00000000 00000001     cni0\n" +
		"fd010000000000000000000000000001 80 " + none + " 00 " + none +
		" 00000000 00000003 00000000 80200001     cni0\n" +
		"ff000000000000000000000000000000 08 " + none + " 00 " + none +
		" 00000100 00000003 00000000 00000001     cni0\n" +
		"fd080000000000000000000000000000 40 " + none + " 00 " + none +
		" 00000400 00000001 00000000 00200200     cni0\n"
)

// TestForwarding: a finding names exactly the families that pods have and that are not forwarded.
func TestForwarding(t *testing.T) {
	const (
		off4 = "net.ipv4.ip_forward is 0: this node routes no IPv4 packet to or from pods"
		off6 = "net.ipv6.conf.all.forwarding is 0: this node routes no IPv6 packet to or from pods"
		off  = "net.ipv4.ip_forward is 0 and net.ipv6.conf.all.forwarding is 0: this node routes no IPv4 " +
			"or IPv6 packet to or from pods"
		unseen    = ", so no policy ever sees one"
		is4, is6  = "; IPv4 is forwarded", "; IPv6 is forwarded"
		cni, cali = " (behind cni0)", " (behind cali7, cni0)"
		missing   = ""
	)
	for name, tc := range map[string]struct{ ip4, ip6, routes4, routes6, want string }{
		"dual stack, both on": {"1", "1", uplink4 + bridge4, uplink6 + own6 + bridge6, ""},
		"dual stack, IPv4 off": {"0", "1", uplink4 + bridge4, uplink6 + own6 + bridge6,
			off4 + cni + unseen + is6},
		"dual stack, IPv6 off": {"1", "0", uplink4 + bridge4, uplink6 + own6 + bridge6,
			off6 + cni + unseen + is4},
		"dual stack, both off": {"0", "0", uplink4 + bridge4, uplink6 + own6 + bridge6 + pod6,
			off + cali + unseen},
		"IPv4 pods, IPv6 on the uplink":      {"1", "0", uplink4 + bridge4, uplink6 + own6, ""},
		"IPv4 pods, IPv6 on the uplink, off": {"0", "0", uplink4 + bridge4, uplink6 + own6, off4 + cni + unseen},
		"IPv4 pods, no IPv6 in the kernel":   {"0", missing, uplink4 + bridge4, missing, off4 + cni + unseen},
		"IPv6 pods, IPv4 on the uplink":      {"0", "1", uplink4 + nowhere4, uplink6 + own6 + bridge6, ""},
		"IPv6 pods, IPv4 on the uplink, off": {"0", "0", uplink4, uplink6 + own6 + pod6 + bridge6,
			off6 + cali + unseen},
		"IPv6 pods, no IPv4 address, IPv6 off": {"0", "0", "", uplink6 + own6 + bridge6, off6 + cni + unseen},
		"no pods yet, IPv6 alone is forwarded": {"0", "1", uplink4, uplink6 + own6, ""},
		"no pods yet, nothing is forwarded":    {"0", "0", uplink4, uplink6 + own6, off + unseen},
	} {
		t.Run(name, func(t *testing.T) {
			tree := fstest.MapFS{}
			for file, text := range map[string]string{
				forward4: tc.ip4, forward6: tc.ip6,
				"proc/net/route": "Iface\tDestination\tGateway " +
					"\tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" + tc.routes4,
				"proc/net/ipv6_route": tc.routes6,
			} {
				if text != missing {
					tree[file] = &fstest.MapFile{Data: []byte(text + "\n")}
				}
			}
			checkForwardingText(t, tree, tc.want)
		})
	}
}

// checkForwardingText compares the problem that preflight finds, if any, and looks for the sysctls in the remedy.
func checkForwardingText(t *testing.T, root fs.FS, want string) {
	t.Helper()
	findings := Check(root, 1)
	if want == "" {
		if len(findings) > 0 {
			t.Errorf("findings %+v, want none", findings)
		}
		return
	}
	if len(findings) != 1 || findings[0].Check != Forwarding || findings[0].Problem != want {
		t.Fatalf("findings %+v, want %q", findings, want)
	}
	for _, f := range forwardings() {
		if zero := strings.Contains(want, f.sysctl); zero != strings.Contains(findings[0].Remedy, f.sysctl+"=1") {
			t.Errorf("problem %q, remedy %q", want, findings[0].Remedy)
		}
	}
}

// TestForwardingKernel reads the kernel's files, with a link that has pods' addresses, and one with a default route.
func TestForwardingKernel(t *testing.T) {
	netns.Enter(t)
	root := kernelFiles(t)
	run(t, "ip link add eth0 up type veth peer name far0", "ip link set far0 up",
		"ip addr add 192.0.2.1/24 dev eth0", "ip route add default via 192.0.2.2",
		"ip addr add fd00::1/64 dev eth0 nodad", "ip -6 route add default via fd00::2",
		"ip route add blackhole 10.8.0.0/24", "ip -6 route add blackhole fd08::/64",
		"ip link add cni0 up type bridge")
	check := func(want string) {
		t.Helper()
		checkForwardingText(t, threadFiles{os.DirFS(root)}, want)
	}
	writeFile(t, filepath.Join(root, forward4), "0")
	writeFile(t, filepath.Join(root, forward6), "0")
	check("net.ipv4.ip_forward is 0 and net.ipv6.conf.all.forwarding is 0: this node routes no IPv4 or IPv6 packet " +
		"to or from pods, so no policy ever sees one")
	run(t, "ip addr add 10.244.1.1/24 dev cni0")
	check("net.ipv4.ip_forward is 0: this node routes no IPv4 packet to or from pods (behind cni0), so no policy " +
		"ever sees one")
	writeFile(t, filepath.Join(root, forward4), "1")
	check("")
	run(t, "ip addr add fd01::1/64 dev cni0 nodad")
	check("net.ipv6.conf.all.forwarding is 0: this node routes no IPv6 packet to or from pods (behind cni0), so no " +
		"policy ever sees one; IPv4 is forwarded")
	writeFile(t, filepath.Join(root, forward6), "1")
	check("")
}

// threadFiles are the files of the network namespace of the calling thread. /proc/net is that of the process, and a
// test's thread is elsewhere.
type threadFiles struct{ fs.FS }

// Open opens a file.
func (f threadFiles) Open(name string) (fs.File, error) {
	if rest, ok := strings.CutPrefix(name, "proc/net/"); ok {
		name = "proc/thread-self/net/" + rest
	}
	return f.FS.Open(name)
}
