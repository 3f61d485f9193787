// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate"
)

// The policies allow ns/client to reach PROTOCOL 7777 of ns/server, which may not open connections.
const streamed = `
{apiVersion: v1, kind: Namespace, metadata: {name: ns}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: ns, labels: {app: client}}
spec: {nodeName: node-1, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.244.1.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: ns, labels: {app: server}}
spec: {nodeName: node-1, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.244.2.2}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: ns}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{protocol: PROTOCOL, port: 7777}]
`

// TestSCTP connects two pods of a node with the kernel's own sockets, if it has SCTP sockets. It does the same with
// TCP, so that the test itself is tested on each kernel.
func TestSCTP(t *testing.T) {
	for name, protocol := range map[string]int{"SCTP": unix.IPPROTO_SCTP, "TCP": unix.IPPROTO_TCP} {
		t.Run(name, func(t *testing.T) {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, protocol)
			if errors.Is(err, unix.EPROTONOSUPPORT) {
				t.Skipf("this kernel has no sockets for %s", name)
			}
			if err != nil {
				t.Fatal(err)
			}
			_ = unix.Close(fd)
			streams(t, name, protocol)
		})
	}
}

// streams tries connections between the pods, without and with the policies.
func streams(t *testing.T, name string, protocol int) {
	netns.Enter(t)
	pods := map[string]*podLink{"client": addPodLink(t, 1), "server": addPodLink(t, 2)}
	if err := netns.SetSysctl("ipv4/ip_forward", "1"); err != nil {
		t.Fatal(err)
	}
	at := func(pod string, port int) *unix.SockaddrInet4 {
		n := map[string]byte{"client": 1, "server": 2}[pod]
		return &unix.SockaddrInet4{Addr: [4]byte{10, 244, n, 2}, Port: port}
	}
	type row struct {
		from, to string
		port     int
		allowed  bool // by the policies
	}
	rows := []row{
		{"client", "server", 7777, true}, {"client", "server", 7778, false}, {"server", "client", 7777, false},
	}
	for _, r := range rows {
		pods[r.to].inside(t, func() { serve(t, protocol, at(r.to, r.port)) })
	}
	try := func(when string, r row, want bool) {
		t.Helper()
		patience, got := denied, error(nil)
		if want {
			patience = allowed
		}
		pods[r.from].inside(t, func() { got = hello(protocol, at(r.to, r.port), patience) })
		if (got == nil) != want {
			t.Errorf("%s: %s from %s to %s:%d: %v, want connected: %t", when, name, r.from, r.to, r.port, got, want)
		}
	}
	for _, r := range rows {
		try("without policies", r, true)
	}
	apply(t, open(t), stateOf(t, translate.Options{}, strings.ReplaceAll(streamed, "PROTOCOL", name)))
	for _, r := range rows {
		try("with policies", r, r.allowed)
	}
}

// serve echoes what comes over connections to an address, until the test ends.
func serve(t *testing.T, protocol int, on *unix.SockaddrInet4) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, on)
	}
	if err == nil {
		err = unix.Listen(fd, 16)
	}
	if err != nil {
		t.Errorf("serve: %v", err)
		return
	}
	go func() {
		b := make([]byte, 16)
		for {
			one, _, err := unix.Accept(fd)
			if err != nil {
				return
			}
			if n, err := unix.Read(one, b); err == nil {
				_, _ = unix.Write(one, b[:n])
			}
			_ = unix.Close(one)
		}
	}()
	t.Cleanup(func() {
		_ = unix.Shutdown(fd, unix.SHUT_RDWR)
		_ = unix.Close(fd)
	})
}

// hello opens a connection and gets its message echoed, or returns an error.
func hello(protocol int, to *unix.SockaddrInet4, patience time.Duration) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return err
	}
	defer unix.Close(fd) //nolint:errcheck // a socket of the test
	limit := unix.NsecToTimeval(patience.Nanoseconds())
	for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &limit); err != nil {
			return err
		}
	}
	if err := unix.Connect(fd, to); err != nil {
		return err
	}
	if _, err := unix.Write(fd, []byte("hello")); err != nil {
		return err
	}
	_, err = unix.Read(fd, make([]byte, 16))
	return err
}
