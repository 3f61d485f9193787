// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os/exec"
	"testing"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/trace"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// probeNode sends to the node itself from its pods' addresses, and compares its answers with the rules and the
// policies.
func (f *fuzz) probeNode(where string, r *rand.Rand, c *policy.Cluster, s *translate.State) {
	const perPod = 3
	ports := []uint16{1, 53, 80, 443, 8080, 65535}
	for _, p := range c.Pods {
		for _, a := range p.IPs {
			if p.HostNetwork || p.Node != node || !routable(a) {
				continue
			}
			for range perPod {
				flow := policy.Flow{ToNode: true, Src: a, Dst: nodeAddr(a), Proto: nft.TCP,
					DstPort: ports[r.IntN(len(ports))]}
				if r.IntN(4) == 0 {
					flow.DstPort, flow.Proto, flow.ICMPType = 0, nft.ICMP, 8
					if a.Is6() {
						flow.Proto, flow.ICMPType = nft.ICMPv6, 128
					}
				}
				f.askNode(where, c, s, flow)
			}
		}
	}
}

// askNode compares the answers about one flow.
func (f *fuzz) askNode(where string, c *policy.Cluster, s *translate.State, flow policy.Flow) {
	if err := f.prober.Forget(); err != nil {
		f.Fatal(err)
	}
	answered, err := toNode(f.prober, flow)
	if err != nil {
		f.Fatalf("%s: %v", where, err)
	}
	trail, err := trace.Follow(s.Complete(), frame.PacketOf(flow))
	verdict := trail.Verdict
	if policies := allows(c, flow); err != nil || answered[0] != policies || (verdict.Kind == nft.Accept) != policies {
		f.Fatalf("%s: %s to the node: answered: %t; the rules: %v, %v; the policies: %t\n%s", where, flow,
			answered[0], verdict, err, policies,
			random.Manifest(c))
	}
	f.toNode++
}

// The policy allows the pod to reach port 9000 of its node on TCP and UDP, and nothing else.
const asking = `
{apiVersion: v1, kind: Namespace, metadata: {name: ns}}
---
apiVersion: v1
kind: Pod
metadata: {name: pod, namespace: ns}
spec: {nodeName: node-1, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.244.1.2}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: node, namespace: ns}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  egress:
  - to: [{ipBlock: {cidr: 10.244.1.1/32}}]
    ports: [{port: 9000}, {port: 9000, protocol: UDP}]
`

// TestToNode connects a pod in its own network namespace with sockets of its node, and the node with a socket of the
// pod.
func TestToNode(t *testing.T) {
	for name, options := range map[string]translate.Options{"filter": {}, "allow": {PodToNode: policy.AllowPodToNode}} {
		t.Run(name, func(t *testing.T) {
			pod := newPodLink(t)
			apply(t, open(t), stateOf(t, options, asking))
			for _, row := range []struct {
				network string
				port    int
				policy  bool // the policy allows it
			}{{"tcp", 9000, true}, {"tcp", 9001, false}, {"udp", 9000, true}, {"udp", 9001, false}} {
				want := row.policy || options.PodToNode == policy.AllowPodToNode
				patience := denied
				if want {
					patience = allowed
				}
				if got := pod.asks(t, row.network, row.port, patience); got != want {
					t.Errorf("%s %d: the node answers: %t, want %t", row.network, row.port, got, want)
				}
			}
			if !pod.answers(t) {
				t.Error("the node does not reach its own pod")
			}
		})
	}
}

// podLink is the network namespace of a pod, 10.244.N.2, behind a link of the node, 10.244.N.1. The test is on the
// node.
type podLink struct{ space *netns.Namespace }

// How long to wait for an answer: one that should come, and one that should not.
const (
	allowed = 20 * time.Second
	denied  = 500 * time.Millisecond
)

// newPodLink makes a node with the pod 10.244.1.2.
func newPodLink(t *testing.T) *podLink {
	t.Helper()
	netns.Enter(t)
	return addPodLink(t, 1)
}

// addPodLink adds the pod 10.244.N.2 to the node.
func addPodLink(t *testing.T, n int) *podLink {
	t.Helper()
	made := make(chan *netns.Namespace)
	go func() {
		space, err := netns.New()
		if err != nil {
			t.Error(err)
		}
		made <- space
	}()
	pod := &podLink{<-made}
	if pod.space == nil {
		t.FailNow()
	}
	t.Cleanup(func() { _ = pod.space.Close() })
	link, address := fmt.Sprintf("pod%d", n), fmt.Sprintf("10.244.%d.", n)
	run(t, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", pod.space.Path())
	run(t, "ip", "address", "add", address+"1/24", "dev", link)
	run(t, "ip", "link", "set", link, "up")
	pod.inside(t, func() {
		run(t, "ip", "address", "add", address+"2/24", "dev", "eth0")
		run(t, "ip", "link", "set", "eth0", "up")
		run(t, "ip", "route", "add", "default", "via", address+"1")
	})
	return pod
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Errorf("%s %v: %v: %s", name, args, err, out)
	}
}

// inside runs f in the pod's network namespace.
func (p *podLink) inside(t *testing.T, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.space.Join(t)
		f()
	}()
	<-done
}

// asks says whether the pod gets an answer from a socket of the node.
func (p *podLink) asks(t *testing.T, network string, port int, patience time.Duration) bool {
	t.Helper()
	address := fmt.Sprintf("10.244.1.1:%d", port)
	echo(t, network, address)
	var ok bool
	p.inside(t, func() { ok = reaches(network, address, patience) })
	return ok
}

// answers says whether the node reaches a socket of its pod.
func (p *podLink) answers(t *testing.T) bool {
	t.Helper()
	p.inside(t, func() { echo(t, "tcp", "10.244.1.2:80") })
	return reaches("tcp", "10.244.1.2:80", allowed)
}

// reaches says whether what is sent to an address comes back.
func reaches(network, address string, patience time.Duration) bool {
	conn, err := net.DialTimeout(network, address, patience)
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte("ping")); err != nil {
		return false
	}
	_, err = io.ReadFull(conn, make([]byte, 4))
	return err == nil
}

// echo sends back, once, what comes to an address, until the test ends.
func echo(t *testing.T, network, address string) {
	t.Helper()
	if network == "udp" {
		conn, err := net.ListenPacket(network, address)
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { _ = conn.Close() })
		go func() {
			b := make([]byte, 64)
			if n, from, err := conn.ReadFrom(b); err == nil {
				_, _ = conn.WriteTo(b[:n], from)
			}
		}()
		return
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Error(err)
		return
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		if conn, err := l.Accept(); err == nil {
			_, _ = io.CopyN(conn, conn, 4)
			_ = conn.Close()
		}
	}()
}
