// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestReuse lets pods come and go, denied and free ones in turn, on a node with few addresses: each gets its own
// verdict.
func TestReuse(t *testing.T) {
	s := newScene(t)
	var mu sync.Mutex
	words, addresses := map[string]map[string]string{"denied": {}, "free": {}}, make(map[string]int)
	var group errgroup.Group
	group.SetLimit(*liveFlag)
	for i := range *reuseFlag {
		group.Go(func() error {
			role := []string{"denied", "free"}[i%2]
			name := fmt.Sprintf("%s-%d", role, i)
			address, text, err := s.life(name, role)
			mu.Lock()
			defer mu.Unlock()
			words[role][name] = text
			addresses[address]++
			return err
		})
	}
	s.must(group.Wait())
	denied, free := count(words["denied"]), count(words["free"])
	t.Logf("%d pods with %d addresses; denied: %v; free: %v", *reuseFlag, len(addresses), denied, free)
	if len(addresses) == *reuseFlag {
		t.Log("no address was used twice: the node has more addresses than -reuse")
	}
	if want := len(words["denied"]) * 2; denied["shut-out"] != want || denied["shut-in"] != want {
		t.Errorf("denied pods: %v, want all of %d denied each way", denied, want)
	}
	if want := len(words["free"]) * 2; free["out"] != want || free["in"] != want {
		t.Errorf("free pods: %v, want all of %d connected each way", free, want)
	}
}

// life starts a pod that probes twice, waits for its end, deletes it and returns its address and termination message.
// Goroutines may call it.
func (s *scene) life(name, role string) (address, words string, err error) {
	pods := s.client.CoreV1().Pods(s.namespace)
	if _, err := pods.Create(s.Context(), s.pod(name, role, s.near, probingFor(2)),
		metav1.CreateOptions{}); err != nil {
		return "", "", err
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(300 * time.Millisecond) {
		p, err := pods.Get(s.Context(), name, metav1.GetOptions{})
		if err != nil {
			return "", "", err
		}
		if words, ended := lastWords(p); ended {
			return p.Status.PodIP, words, pods.Delete(s.Context(), name, metav1.DeleteOptions{})
		}
	}
	return "", "", fmt.Errorf("pod %s has not ended after %s", name, patience)
}

// train is a pod's script: a connection every 50 ms, and a line about each with the number of SYNs that it sent again.
const train = `
while :; do
	if curl -s -m TIMEOUT -o /dev/null $TARGET/hostname; then r=through; else r=shut; fi
	awk -v r=$r '/^TcpExt:/ { for (i = 2; i <= NF; i++)
  if (seen) { if (name[i] == "TCPSynRetrans") print r, $i } else name[i] = $i; seen = 1 }' /proc/net/netstat
	sleep 0.05
done`

// TestUpdate replaces netpold on every node while connections are made: no allowed one is lost, and no denied one gets
// through.
func TestUpdate(t *testing.T) {
	s := newScene(t)
	script := func(target, timeout string) string {
		return strings.NewReplacer("TIMEOUT", timeout, "$TARGET", target).Replace(train)
	}
	s.create(s.pod("allowed", "allowed", s.near, script("$GUARDED", "60")))
	s.create(s.pod("denied", "denied", s.near, script("$DISTANT", "0.3")))
	s.create(s.pod("stranger", "free", s.far, script("$GUARDED", "0.3")))
	lines := func(pod string) []string { return strings.Fields(s.logs(pod)) }
	before := make(map[string]int) // an earlier version may have missed a pod's first packets
	for _, pod := range []string{"allowed", "denied", "stranger"} {
		s.eventually(pod+" is at work", func() bool { return len(lines(pod)) > 20 })
		before[pod] = len(lines(pod)) / 2 * 2
	}
	if update := os.Getenv("E2E_UPDATE"); update != "" { // for example, to another version
		out, err := exec.CommandContext(t.Context(), "sh", "-c", update).CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v\n%s", update, err, out)
		}
	} else {
		_, err := kubectl(t.Context(), "-n", installation, "rollout", "restart", "ds/netpold")
		s.must(err)
	}
	_, err := kubectl(t.Context(), "-n", installation, "rollout", "status", "ds/netpold", "--timeout=5m")
	s.must(err)
	for pod, want := range map[string]string{"allowed": "through", "denied": "shut", "stranger": "shut"} {
		fields := lines(pod)
		seen, other := 0, 0
		for i := before[pod]; i+1 < len(fields); i += 2 {
			seen++
			if fields[i] != want || want == "through" && fields[i+1] != fields[i-1] {
				other++
			}
		}
		t.Logf("%s: %d connections, %d not %s at the first try", pod, seen, other, want)
		if other != 0 || seen == 0 {
			t.Errorf("%s: %d of %d connections were not %s", pod, other, seen, want)
		}
	}
}

// logs returns what a pod has printed.
func (s *scene) logs(pod string) string {
	s.Helper()
	text, err := s.client.CoreV1().Pods(s.namespace).GetLogs(pod, &corev1.PodLogOptions{}).DoRaw(s.Context())
	if err != nil {
		return "" // it has not started
	}
	return string(text)
}

// TestDrops asks netpold for the line about a denied connection.
func TestDrops(t *testing.T) {
	s := newScene(t)
	s.create(s.pod("blocked", "denied", s.near, `curl -s -m 2 -o /dev/null $SERVER/hostname; true`))
	s.finished("role=denied", 1)
	daemon := s.daemon(s.near)
	if daemon == nil {
		t.Fatalf("no netpold on %s", s.near)
	}
	var out string
	s.eventually("netpold drops has the line", func() bool {
		var err error
		out, err = kubectl(t.Context(), "-n", daemon.Namespace, "exec", daemon.Name, "--", "netpold", "drops",
			"--namespace="+s.namespace)
		return err == nil && strings.Contains(out, "from "+s.namespace+"/blocked") &&
			strings.Contains(out, "to "+s.namespace+"/server")
	})
	t.Logf("%s", bytes.TrimSpace([]byte(out)))
	if !strings.Contains(out, "egress of "+s.namespace+"/blocked is isolated by "+s.namespace+"/denied") {
		t.Errorf("no line names the policy:\n%s", out)
	}
}

// TestUpstream runs Kubernetes' own tests of NetworkPolicy, except those that need SCTP in the kernel.
func TestUpstream(t *testing.T) {
	program := os.Getenv("E2E_TEST")
	if program == "" {
		t.Skip("E2E_TEST does not name Kubernetes' e2e.test")
	}
	flags := []string{"--kubeconfig=" + os.Getenv("KUBECONFIG"), "--provider=skeleton", "--report-dir=",
		"--disable-log-dump=true"}
	focus, skip := "Netpol|NetworkPolicy", "Feature:SCTPConnectivity"
	args := append([]string{"--ginkgo.focus=" + focus, "--ginkgo.skip=" + skip, "--ginkgo.no-color"}, flags...)
	if ginkgo := os.Getenv("E2E_GINKGO"); ginkgo != "" {
		procs := os.Getenv("E2E_PROCS")
		if procs == "" {
			procs = "4"
		}
		args = append([]string{"--procs=" + procs, "--focus=" + focus, "--skip=" + skip, "--no-color", "--timeout=2h",
			program, "--"}, flags...)
		program = ginkgo
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	out, err := cmd.CombinedOutput()
	text := string(out)
	if i := strings.LastIndex(text, "Ran "); i >= 0 {
		text = text[i:]
	}
	t.Log(text)
	if err != nil {
		t.Errorf("%s: %v\n%s", program, err, out)
	}
}
