// SPDX-License-Identifier: Apache-2.0

package monitoring_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/netpold/netpold/test/harness/prober"
)

// patience ends a test that is stuck; nothing is measured by it.
const patience = time.Minute

const listen = "127.0.0.1:9911"

// shop/db is isolated for ingress, shop/locked for egress, and one policy has a port range that ends before it begins.
const cluster = `apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {nodeName: node-1, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.1.0.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: locked, namespace: shop, labels: {app: locked}}
spec: {nodeName: node-1, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.1.0.3}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec: {podSelector: {matchLabels: {app: db}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: locked, namespace: shop}
spec: {podSelector: {matchLabels: {app: locked}}, policyTypes: [Egress]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: wrong, namespace: shop}
spec: {podSelector: {}, ingress: [{ports: [{port: 90, endPort: 80}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: idle, namespace: elsewhere}
spec: {podSelector: {}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: audited, namespace: shop, annotations: {netpold.io/mode: audit}}
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Egress]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  egress: [{action: Deny, to: [{networks: [0.0.0.0/0]}], protocols: [{tcp: {destinationPort: {number: 25}}}]}]
`

// guest returns a pod; giving it another address is an event.
func guest(i int) string {
	return fmt.Sprintf(`apiVersion: v1
kind: Pod
metadata: {name: guest, namespace: shop, labels: {app: db}}
spec: {nodeName: node-1, containers: [{name: a, image: a}]}
status: {phase: Running, podIPs: [{ip: 10.1.1.%d}]}
`, 1+i%250)
}

// audited passes, but an audited policy would deny it.
func audited() prober.Probe {
	return prober.Probe{Src: netip.MustParseAddr("10.1.0.2"), Dst: netip.MustParseAddr("198.51.100.7"),
		Proto: unix.IPPROTO_TCP, DstPort: 443}
}

// ruled is denied by a rule of a ClusterNetworkPolicy.
func ruled() prober.Probe {
	p := audited()
	p.DstPort = 25
	return p
}

// ingress and egress are denied.
func ingress() prober.Probe {
	return prober.Probe{Src: netip.MustParseAddr("198.51.100.7"), Dst: netip.MustParseAddr("10.1.0.2"),
		Proto: unix.IPPROTO_TCP, DstPort: 6379}
}

func egress() prober.Probe {
	return prober.Probe{Src: netip.MustParseAddr("10.1.0.3"), Dst: netip.MustParseAddr("198.51.100.7"),
		Proto: unix.IPPROTO_UDP, DstPort: 53}
}

// deny sends probes, which must not pass.
func deny(t *testing.T, p *prober.Prober, probes ...prober.Probe) {
	t.Helper()
	passed, err := p.Run(probes)
	if err != nil {
		t.Fatal(err)
	}
	for i, q := range probes {
		if passed[i] {
			t.Fatalf("%s was forwarded", q)
		}
	}
}

// launch starts a program in the network namespace of the thread. It is killed at the end, and if the test has failed
// its standard error is logged.
func launch(t *testing.T, path string, args ...string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "stderr")
	stderr, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	cmd := exec.Command(path, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // the thread is the test's
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", filepath.Base(path), content(t, name))
		}
	})
}

// startNetpold starts netpold on a folder with the cluster, and returns the folder once netpold is ready.
func startNetpold(t *testing.T, netpold string, flags ...string) (folder string) {
	t.Helper()
	folder = t.TempDir()
	write(t, filepath.Join(folder, "cluster.yaml"), []byte(cluster))
	launch(t, netpold, append([]string{"run", "--manifests=" + folder, "--node=node-1",
		"--listen=" + listen}, flags...)...)
	await(t, "netpold is ready", func() error {
		_, err := get(listen, "/readyz")
		return err
	})
	return folder
}

// await calls try until it returns nil.
func await(t *testing.T, what string, try func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not yet: %v", what, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// get sends a request from the network namespace of the calling thread. The transport of net/http would dial on another
// thread.
func get(address, path string) ([]byte, error) {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	request, err := http.NewRequest(http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		return nil, err
	}
	if err := request.Write(conn); err != nil {
		return nil, err
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("GET %s: %s: %s", path, response.Status, bytes.TrimSpace(body))
	}
	return body, err
}

// TestNetpold builds the program once for all.
func TestNetpold(t *testing.T) {
	netpold := filepath.Join(t.TempDir(), "netpold")
	if out, err := exec.Command("go", "build", "-o", netpold,
		"github.com/netpold/netpold/cmd/netpold").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	t.Run("served", func(t *testing.T) { testServed(t, netpold) })
	t.Run("prometheus", func(t *testing.T) { testPrometheus(t, netpold) })
}

// testServed compares what is written about the metrics with those that netpold serves.
func testServed(t *testing.T, netpold string) {
	p := prober.New(t)
	// The gate has its own metrics, with a container runtime or, as here, without one.
	startNetpold(t, netpold, "--observe", "--gate=closed", "--gate-socket="+filepath.Join(t.TempDir(), "nri.sock"))
	deny(t, p, ingress(), ingress(), egress())
	var text []byte
	await(t, "three drops are counted", func() (err error) {
		text, err = get(listen, "/metrics")
		for _, sample := range []string{
			`netpold_dropped_packets_total{direction="ingress",namespace="shop",tier="NetworkPolicy"} 2`,
			`netpold_dropped_packets_total{direction="egress",namespace="shop",tier="NetworkPolicy"} 1`,
			`netpold_cluster_policy_denied_packets_total{direction="egress",policy="guard",rule="1",tier="Admin"} 0`,
			"netpold_drop_records_total 3",
			`netpold_policies{state="rejected"} 1`, `netpold_policies{state="idle"} 1`,
			`netpold_policies{state="effective"} 2`,
		} {
			if err == nil && !strings.Contains(string(text), sample+"\n") {
				err = fmt.Errorf("no %s", sample)
			}
		}
		return err
	})
	t.Run("lint", func(t *testing.T) { checkLint(t, text) })
	t.Logf("%d series", len(sampleLine.FindAll(text, -1)))
	served := parse(t, text)
	t.Run("labels", func(t *testing.T) { checkLabels(t, served) })
	t.Run("used", func(t *testing.T) { checkUsed(t, served) })
	t.Run("documented", func(t *testing.T) { checkDocumented(t, served) })
}
