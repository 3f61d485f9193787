// SPDX-License-Identifier: Apache-2.0

package preflight

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// TestPreflightKernel compares the finding about bridges with the kernel: it is reported exactly when the forward hook
// does not see a packet from port to port. ManageBridges repairs it.
func TestPreflightKernel(t *testing.T) {
	netns.Enter(t)
	root := kernelFiles(t)
	writeFile(t, filepath.Join(root, forward4), "1")
	checkFindings(t, Check(os.DirFS(root), 1), nil)
	writeFile(t, filepath.Join(root, forward4), "0")
	writeFile(t, filepath.Join(root, forward6), "0")
	checkFindings(t, Check(os.DirFS(root), 1), map[string]string{Forwarding: notForwarded})
	writeFile(t, filepath.Join(root, forward6), "1")

	run(t, "ip link add cni0 up type bridge",
		"ip link add here up type veth peer name port1", "ip link set port1 up master cni0",
		"ip link add there up type veth peer name port2", "ip link set port2 up master cni0",
		"nft add table inet t",
		"nft add chain inet t f { type filter hook forward priority 0; }",
		"nft add rule inet t f ip daddr "+onBridge.dst.Addr().String()+" counter")
	switches := filepath.Join(root, bridgeSysctls)
	if _, err := os.Stat(switches); err != nil {
		netns.Require(t, fmt.Errorf("br_netfilter: %w", err))
	}
	for _, tc := range []struct {
		name, file, value string
		seen              bool
	}{
		{"new", "", "", true},
		{"off", filepath.Join(switches, "bridge-nf-call-iptables"), "0", false},
		{"off but for this bridge", filepath.Join(root, option4), "1", true},
		{"off altogether", filepath.Join(root, option4), "0", false},
	} {
		if tc.file != "" {
			writeFile(t, tc.file, tc.value)
		}
		checkBridge(t, root, tc.name, tc.seen)
	}
	if err := ManageBridges(root); err != nil {
		t.Fatal(err)
	}
	checkBridge(t, root, "managed", true)
}

// onBridge is the flow of the packets that checkBridge sends.
var onBridge = struct {
	src, dst netip.AddrPort
}{netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")}

// checkBridge sends a packet over the bridge and compares what the forward hook sees with preflight's finding.
func checkBridge(t *testing.T, root, name string, want bool) {
	t.Helper()
	findings := map[string]string{Bridge: "IPv4 traffic between pods on one bridge (cni0)"}
	if want {
		findings = nil
	}
	checkFindings(t, Check(os.DirFS(root), 1), findings)
	before := counted(t)
	crossBridge(t)
	if after := counted(t); (after > before) != want {
		t.Errorf("%s: the forward hook counts %d packets before and %d after one on the bridge; want it seen: %t", name,
			before, after, want)
	}
}

// kernelFiles mounts the proc and sys that a container in this network namespace would have. They are gone with the
// test's thread.
func kernelFiles(t *testing.T) (root string) {
	t.Helper()
	root = t.TempDir()
	netns.Require(t, unix.Unshare(unix.CLONE_NEWNS))
	netns.Require(t, unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""))
	for _, dir := range []string{"proc", "sys"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	netns.Require(t, unix.Mount("/proc", filepath.Join(root, "proc"), "", unix.MS_BIND, ""))
	netns.Require(t, unix.Mount("sysfs", filepath.Join(root, "sys"), "sysfs", 0, ""))
	t.Cleanup(func() {
		for _, dir := range []string{"proc", "sys"} {
			if err := unix.Unmount(filepath.Join(root, dir), unix.MNT_DETACH); err != nil {
				t.Error(err)
			}
		}
	})
	return root
}

// run runs commands in the thread's network namespace.
func run(t *testing.T, commands ...string) {
	t.Helper()
	for _, command := range commands {
		args := strings.Fields(command)
		if strings.Contains(command, "{") { // nft takes it as one argument
			args = []string{args[0], strings.TrimPrefix(command, args[0])}
		}
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		if errors.Is(err, exec.ErrNotFound) {
			netns.Require(t, err)
		}
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
}

// counted returns how many packets the forward hook has seen.
func counted(t *testing.T) int {
	t.Helper()
	out, err := exec.Command("nft", "--json", "list", "chain", "inet", "t", "f").Output()
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Nftables []struct {
			Rule struct {
				Expr []struct{ Counter *struct{ Packets int } }
			}
		}
	}
	if err := json.Unmarshal(out, &list); err != nil {
		t.Fatal(err)
	}
	for _, object := range list.Nftables {
		for _, e := range object.Rule.Expr {
			if e.Counter != nil {
				return e.Counter.Packets
			}
		}
	}
	t.Fatalf("no counter: %s", out)
	return 0
}

// crossBridge sends a packet from one port of the bridge to the other and waits until it arrives.
func crossBridge(t *testing.T) {
	t.Helper()
	in, from := packetSocket(t, "here")
	out, _ := packetSocket(t, "there")
	packet := prober.UDP(onBridge.src, onBridge.dst, []byte("crosses the bridge"))
	from.Halen, from.Addr = 6, [8]uint8{2, 0, 0, 0, 0, 9} // nobody's: the bridge floods it
	buffer := make([]byte, 2048)
	for range 50 { // a new port takes a moment to forward
		if err := unix.Sendto(in, packet, 0, from); err != nil {
			t.Fatal(err)
		}
		switch n, err := unix.Read(out, buffer); {
		case err == nil && bytes.Equal(buffer[:n], packet):
			return
		case err != nil && !errors.Is(err, unix.EAGAIN):
			t.Fatal(err)
		}
	}
	t.Fatal("no packet crosses the bridge")
}

// packetSocket opens a link for IPv4 packets without their link-layer header. A read waits 100 ms.
func packetSocket(t *testing.T, link string) (socket int, at *unix.SockaddrLinklayer) {
	t.Helper()
	const ipv4 = unix.ETH_P_IP>>8 | unix.ETH_P_IP&0xff<<8 // in network byte order
	i, err := net.InterfaceByName(link)
	if err != nil {
		t.Fatal(err)
	}
	socket, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, ipv4)
	netns.Require(t, err)
	t.Cleanup(func() { _ = unix.Close(socket) })
	at = &unix.SockaddrLinklayer{Protocol: ipv4, Ifindex: i.Index}
	if err := unix.Bind(socket, at); err != nil {
		t.Fatal(err)
	}
	wait := unix.NsecToTimeval((100 * time.Millisecond).Nanoseconds())
	if err := unix.SetsockoptTimeval(socket, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		t.Fatal(err)
	}
	return socket, at
}
