// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// probing is a pod's script from its first instruction on: every 200 ms it connects out, and asks the prober to connect
// to it. It ends with how many of each got through. A refusal comes from the pod's own kernel, since nothing listens,
// so the pod was reached.
const probing = `
try_out() { if curl -s -m 10 -o /dev/null $DISTANT/hostname; then echo out; else echo shut-out; fi; }
try_in() {
	case $(curl -s -g -m 20 "$PROBER/dial?host=$IP&port=9&request=x&tries=1") in
	*refused*|*responses*) echo in ;;
	*errors*) echo shut-in ;;
	*) echo unasked ;;
	esac
}
i=0
while [ $i -lt ROUNDS ]; do
	try_out >>/tmp/r & try_in >>/tmp/r &
	i=$((i+1)); sleep 0.2
done
wait
sort /tmp/r | uniq -c >/dev/termination-log`

// probingFor is [probing] with a number of rounds.
func probingFor(rounds int) string { return strings.ReplaceAll(probing, "ROUNDS", fmt.Sprint(rounds)) }

// firstTry is the script of a pod that may connect: it connects once, and ends with whether it could and how many SYNs
// it sent again. A dropped SYN is sent again after a second, so a connection alone proves little.
const firstTry = `
if curl -s -m 60 -o /dev/null $TARGET/hostname; then r=connected; else r=failed; fi
awk -v r=$r '/^TcpExt:/ { for (i = 2; i <= NF; i++)
  if (seen) { if (name[i] == "TCPSynRetrans") print r, $i } else name[i] = $i; seen = 1 }' \
	/proc/net/netstat >/dev/termination-log`

// counts is what probing pods counted, by word.
type counts map[string]int

func count(words map[string]string) counts {
	sum := make(counts)
	for _, text := range words {
		for line := range strings.Lines(text) {
			var n int
			var word string
			if _, err := fmt.Sscan(line, &n, &word); err != nil {
				word, n = "unreadable", 1
			}
			sum[word] += n
		}
	}
	return sum
}

// TestFirstPacket starts many pods at once, on idle and on busy nodes: nothing gets through to or from the denied ones,
// and the others connect at the first try.
func TestFirstPacket(t *testing.T) {
	for _, load := range []string{"idle", "busy"} {
		t.Run(load, func(t *testing.T) {
			s := newScene(t)
			if load == "busy" {
				s.busy()
			}
			s.denied()
			s.first()
		})
	}
}

const rounds = 15

// denied starts denied pods, and some free ones to check that the probes work.
func (s *scene) denied() {
	s.Helper()
	n, control := *podsFlag, max(*podsFlag/10, 1)
	for i := range n {
		s.create(s.pod(fmt.Sprintf("denied-%d", i), "denied", s.near, probingFor(rounds)))
		if i < control {
			s.create(s.pod(fmt.Sprintf("free-%d", i), "free", s.near, probingFor(rounds)))
		}
	}
	denied, free := count(s.finished("role=denied", n)), count(s.finished("role=free", control))
	s.Logf("%d denied pods: %v", n, denied)
	s.Logf("%d free pods: %v", control, free)
	if denied["out"] != 0 || denied["in"] != 0 || denied["shut-out"] != n*rounds || denied["shut-in"] != n*rounds {
		s.Errorf("%d connections out of and %d into denied pods; want all of %d denied each way", denied["out"],
			denied["in"], n*rounds)
	}
	if most := control * rounds * 3 / 4; free["out"] < most || free["in"] < most { // a busy machine loses some
		s.Errorf("free pods: %v, want %d each way: the probes do not work", free, control*rounds)
	}
	s.remove("role in (denied,free)")
}

// first starts pods that may connect to a server on their node, some because of policies and some without any.
func (s *scene) first() {
	s.Helper()
	roles := map[string]string{"allowed": "$GUARDED", "free": "$SERVER"}
	n := (*podsFlag + 1) / 2
	for i := range n {
		for role, target := range roles {
			s.create(s.pod(fmt.Sprintf("%s-%d", role, i), role, s.near,
				strings.ReplaceAll(firstTry, "$TARGET", target)))
		}
	}
	for role := range roles {
		ok := 0
		for name, text := range s.finished("role="+role, n) {
			if strings.TrimSpace(text) == "connected 0" {
				ok++
			} else {
				s.Errorf("%s: %q, want it connected without a second SYN", name, text)
			}
		}
		s.Logf("%d %s pods: %d connected at the first try", n, role, ok)
	}
	// What some may do others may not: the guarded server does not allow free pods.
	s.create(s.pod("stranger", "stranger", s.near,
		strings.ReplaceAll(strings.Replace(firstTry, "-m 60", "-m 3", 1), "$TARGET", "$GUARDED")))
	for _, text := range s.finished("role=stranger", 1) {
		if !strings.HasPrefix(text, "failed") {
			s.Errorf("a stranger at the guarded server: %q, want it failed", text)
		}
	}
	s.remove("role in (allowed,free,stranger)")
}

// waiting is the script of a pod that a server on another node allows by its labels: it tries until it connects, and
// ends with when it began and when it connected, in seconds since the node booted.
const waiting = `
read begin _ </proc/uptime
while ! curl -s -m 0.05 -o /dev/null $REMOTE/hostname; do :; done
read end _ </proc/uptime
echo $begin $end >/dev/termination-log`

// TestOtherNode measures how long a server's node denies a new client, which it knows from the API: in all, and, if the
// nodes share this machine's clock, until the API has the address.
func TestOtherNode(t *testing.T) {
	s := newScene(t)
	pods := s.client.CoreV1().Pods(s.namespace)
	for i := range max(*podsFlag/5, 1) {
		name := fmt.Sprintf("allowed-%d", i)
		w, err := pods.Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		s.must(err)
		s.create(s.pod(name, "allowed", s.near, waiting))
		told, words := 0.0, ""
		for e := range w.ResultChan() {
			p, ok := e.Object.(*corev1.Pod)
			if !ok {
				break
			}
			if p.Status.PodIP != "" && told == 0 {
				told = uptime(t)
			}
			var ended bool
			if words, ended = lastWords(p); ended {
				break
			}
		}
		w.Stop()
		var begin, end float64
		if _, err := fmt.Sscan(words, &begin, &end); err != nil {
			t.Errorf("%s was not let in: %q", name, words)
			continue
		}
		t.Logf("let in after %.2f s; the API told the address after %.2f s", end-begin, told-begin)
	}
}

// uptime is this machine's time since boot.
func uptime(t *testing.T) float64 {
	t.Helper()
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return 0 // not Linux
	}
	var seconds float64
	if _, err := fmt.Sscan(string(text), &seconds); err != nil {
		t.Fatal(err)
	}
	return seconds
}

// kills is how often netpold is killed while pods start.
const kills = 3

// killing is the script of a pod that sees the node's processes.
const killing = `
n=0
while [ $n -lt KILLS ]; do
	for p in /proc/[0-9]*; do
		if [ "$(cat $p/comm 2>/dev/null)" = netpold ] && kill -9 ${p#/proc/}; then n=$((n+1)); sleep $PAUSE; fi
	done
	sleep 0.1
done`

// TestKilled kills netpold at random while denied pods start.
func TestKilled(t *testing.T) {
	if !*killFlag {
		t.Skip("-kill=false")
	}
	s := newScene(t)
	before := s.restarts()
	killer := s.pod("killer", "killer", s.near, strings.ReplaceAll(killing, "KILLS", fmt.Sprint(kills)))
	c := &killer.Spec.Containers[0]
	c.Env = append(c.Env, corev1.EnvVar{Name: "PAUSE", Value: fmt.Sprintf("%.1f", 5*rand.Float64())})
	killer.Spec.HostPID = true
	c.SecurityContext = &corev1.SecurityContext{Privileged: new(true)}
	n := *podsFlag
	for i := range n {
		if i == n/10 {
			s.create(killer)
		}
		s.create(s.pod(fmt.Sprintf("denied-%d", i), "denied", s.near, probingFor(rounds)))
		time.Sleep(time.Duration(rand.IntN(500)) * time.Millisecond)
	}
	got := count(s.finished("role=denied", n))
	s.finished("role=killer", 1)
	t.Logf("%d denied pods, netpold killed %d times: %v", n, kills, got)
	if got["out"] != 0 || got["in"] != 0 || got["shut-out"] != n*rounds {
		t.Errorf("%d connections out of and %d into denied pods", got["out"], got["in"])
	}
	s.eventually("netpold is back", func() bool {
		p := s.daemon(s.near)
		return p != nil && len(p.Status.ContainerStatuses) == 1 && p.Status.ContainerStatuses[0].Ready
	})
	if after := s.restarts(); after < before+kills {
		t.Errorf("netpold was restarted %d times, want %d", after-before, kills)
	}
}

// restarts is how often netpold on the near node was restarted.
func (s *scene) restarts() int {
	s.Helper()
	p := s.daemon(s.near)
	if p == nil || len(p.Status.ContainerStatuses) != 1 {
		s.Fatalf("no netpold on %s", s.near)
	}
	return int(p.Status.ContainerStatuses[0].RestartCount)
}
