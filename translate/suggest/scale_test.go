// SPDX-License-Identifier: Apache-2.0

package suggest_test

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/netpold/netpold/test/harness/cpu"
	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/connectivity/render"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/suggest"
)

// numbered returns an address of a network.
func numbered(network byte, n int) netip.Addr {
	return netip.AddrFrom4([4]byte{network, byte(n >> 16), byte(n >> 8), byte(n)})
}

// large returns a cluster of so many pods, with so many pods in a workload and workloads in a namespace: ns-0, ns-1, …
func large(pods, perWorkload, perNamespace int) *policy.Cluster {
	c := &policy.Cluster{Namespaces: make(map[string]map[string]string)}
	for i := range pods {
		w := i / perWorkload
		ns := fmt.Sprintf("ns-%d", w/perNamespace)
		c.Namespaces[ns] = nil
		c.Pods = append(c.Pods, pod(fmt.Sprintf("%s/w%d-%d", ns, w, i), fmt.Sprintf("StatefulSet/w%d", w),
			fmt.Sprintf("app=w%d,statefulset.kubernetes.io/pod-name=w%d-%d", w, w, i), numbered(10, i+1).String()))
	}
	return c
}

// podEnd returns the end of a flow that a pod of a cluster is.
func podEnd(c *policy.Cluster, n int) flows.End {
	p := &c.Pods[n]
	w := connectivity.WorkloadOf(p)
	return flows.End{Address: p.IPs[0], Namespace: p.Namespace, Pod: p.String(), Workload: w.Kind + "/" + w.Name,
		Labels: p.Labels}
}

// between returns a flow.
func between(from, to flows.End, port int) flows.Flow {
	at := time.Date(2026, 11, 22, 0, 1, 0, 0, time.UTC)
	return flows.Flow{From: from, To: to, Protocol: "tcp", Port: uint16(port), Count: 1, First: at, Last: at,
		Verdict: flows.Allowed}
}

// shapes are clusters of n pods, n flows, and policies, by what grows with n.
func shapes() map[string]func(n int) suggest.Request {
	return map[string]func(int) suggest.Request{
		"ports": func(n int) suggest.Request {
			r := suggest.Request{Cluster: large(n, 10, 10)}
			for i := range n {
				r.Flows = append(r.Flows, between(podEnd(r.Cluster, 0), podEnd(r.Cluster, 10), i+1))
			}
			return r
		},
		"outside addresses": func(n int) suggest.Request {
			r := suggest.Request{Cluster: large(n, 10, 10)}
			for i := range n {
				r.Flows = append(r.Flows, between(flows.End{Address: numbered(11, i)}, podEnd(r.Cluster, i%30), 443))
			}
			return r
		},
		"pods of a workload": func(n int) suggest.Request {
			r := suggest.Request{Cluster: large(n, n, 1)}
			for i := range n {
				r.Flows = append(r.Flows, between(podEnd(r.Cluster, i), podEnd(r.Cluster, (i*7+1)%n), 80))
			}
			return r
		},
		"workloads of other namespaces": func(n int) suggest.Request {
			r := suggest.Request{Cluster: large(n, 10, 10)}
			for i := range n {
				r.Flows = append(r.Flows, between(podEnd(r.Cluster, i), podEnd(r.Cluster, (i+1)%100), 80))
			}
			return r
		},
		"pods and ports, with policies": func(n int) suggest.Request {
			r := suggest.Request{Cluster: large(n, n/400, 40), Namespace: "ns-0"}
			for i := range n {
				from, to := podEnd(r.Cluster, i%(n/10)), podEnd(r.Cluster, (i*7+1)%(n/10))
				r.Flows = append(r.Flows, between(from, to, 1000+i*10/n))
			}
			some := r
			some.Flows = r.Flows[:n/2]
			r.Cluster = suggest.Suggest(some).After
			r.Cluster.Modes = map[string]string{"ns-0": policy.Audit} // else they deny the other half
			return r
		},
	}
}

// spent returns the CPU time of a function.
func spent(do func()) time.Duration {
	runtime.GC()
	before, _ := cpu.Process(os.Getpid()) // which is there
	do()
	after, _ := cpu.Process(os.Getpid())
	return after - before
}

// TestScale: eight times as many flows and pods take not much more than eight times as long, however they differ,
// including the replay, the text and the diff.
func TestScale(t *testing.T) {
	const few, times, most = 2000, 8, 24 // of work that grows with the square, 64
	for name, shape := range shapes() {
		t.Run(name, func(t *testing.T) {
			work := func(n int) time.Duration {
				r := shape(n)
				r.Namespace = "ns-0"
				return spent(func() {
					s := suggest.Suggest(r)
					if len(s.Lost)+len(s.Outdated) > 0 || s.Seen != uint64(n) {
						t.Errorf("%d connections: %d lost, %d outdated", s.Seen, len(s.Lost), len(s.Outdated))
					}
					if err := s.Write(io.Discard); err != nil {
						t.Error(err)
					}
					diff := connectivity.Summarise(connectivity.New(s.Before), connectivity.New(s.After))
					if err := render.DiffText(io.Discard, diff); err != nil {
						t.Error(err)
					}
				})
			}
			one, many := work(few), work(few*times)
			t.Logf("%v for %d flows and pods, %v for %d", one, few, many, few*times)
			if many > most*max(one, 10*time.Millisecond) {
				t.Errorf("%d times as many take %.0f times as long, want %d at most", times, float64(many)/float64(one),
					most)
			}
		})
	}
}

// TestRuleAllocations: a rule for a workload takes few allocations to find, and few to write if other rules have the
// same peer and ports. They were 111 when each comparison made the names again, and 275 when each rule became YAML.
func TestRuleAllocations(t *testing.T) {
	const workloads = 40
	r := suggest.Request{Cluster: large(workloads, 1, workloads), Namespace: "ns-0"}
	for i := range workloads * workloads {
		if from, to := i/workloads, i%workloads; from != to {
			r.Flows = append(r.Flows, between(podEnd(r.Cluster, from), podEnd(r.Cluster, to), 80))
		}
	}
	s, rules := suggest.Suggest(r), 0
	for _, p := range s.Policies {
		rules += len(p.Rules)
	}
	if want := 2 * workloads * (workloads - 1); rules != want {
		t.Fatalf("%d rules, want %d", rules, want)
	}
	for _, of := range []struct {
		name string
		most float64
		do   func()
	}{
		{"find", 85, func() { suggest.Suggest(r) }},
		{"write", 40, func() {
			if err := s.Write(io.Discard); err != nil {
				t.Error(err)
			}
		}},
	} {
		each := testing.AllocsPerRun(1, of.do) / float64(rules)
		t.Logf("%.0f allocations to %s each of %d rules", each, of.name, rules)
		if each > of.most {
			t.Errorf("%.0f allocations to %s each rule, want %.0f at most", each, of.name, of.most)
		}
	}
}
