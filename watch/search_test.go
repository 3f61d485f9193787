// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/bits"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/book"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// objectsOf returns the state of a cluster on the node, and its objects of one kind.
func objectsOf(c *policy.Cluster, kind string) (*translate.State, []nft.Op) {
	state := translate.New("node-1", translate.Options{})
	state.Add(c)
	var all []nft.Op
	for _, op := range state.Complete().Take().Ops {
		for _, one := range singles(op) {
			if kindOf(one) == kind {
				all = append(all, one)
			}
		}
	}
	return state, all
}

// refuseUnnamed makes the kernel refuse whatever has one of the objects, without saying why.
func refuseUnnamed(k *modelKernel, objects map[string]bool) {
	k.overall = func(tx *nft.Transaction) error {
		for _, op := range tx.Ops {
			for _, one := range singles(op) {
				if objects[object(one)] {
					return &nft.Refused{Cause: nft.Shortage, Err: errors.New("out of memory")}
				}
			}
		}
		return nil
	}
}

// TestSearch: if the kernel does not say what it refuses, bisecting finds it in few attempts; everything else is in
// force then.
func TestSearch(t *testing.T) {
	for seed := range uint64(32) {
		for culprits := 1; culprits <= 2; culprits++ {
			for later := range 2 {
				t.Run(fmt.Sprintf("%d/%d/%d", seed, culprits, later), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { searchOne(t, seed, culprits, later) })
				})
			}
		}
	}
}

func searchOne(t *testing.T, seed uint64, culprits, later int) {
	c := newQuarantineCase(t, random.Source(seed), seed)
	state, chains := objectsOf(c.cluster, "chain of an isolation")
	if len(chains) < culprits {
		t.Skip("too few isolations")
	}
	r := random.Source(seed)
	refused, names := make(map[string]bool), make(map[string]bool)
	for range culprits {
		chain := chains[r.IntN(len(chains))]
		refused[object(chain)] = true
		names[chain.Chain.Name] = true
	}
	c.tell(func(k random.Kind) bool { return later == 0 || k != random.PolicyKind })
	if later == 1 {
		c.loop.Synced()
		c.settled()
	}
	refuseUnnamed(c.kernel, refused)
	before := c.kernel.tried
	if later == 1 {
		c.tell(func(k random.Kind) bool { return k == random.PolicyKind })
	} else {
		c.loop.Synced()
	}
	c.settled()
	c.right()
	const transactions = 5 // of one attempt, which replaces the table
	isolations := state.Summary().Isolations
	limit := 3 + 2*len(names)*(1+bits.Len(uint(isolations)))
	if tried := c.kernel.tried - before; tried > transactions*limit || c.kernel.failed > limit {
		t.Errorf("%d transactions, of which %d failed, for %d of %d isolations", tried, c.kernel.failed,
			len(names), isolations)
	}
	aside := c.loop.Report().Policies.Troubles
	aside = slices.DeleteFunc(aside, func(r TroubleReport) bool { return r.Kind != "quarantined" })
	if len(aside) != len(names) {
		t.Errorf("quarantined: %+v, want %v", aside, names)
	}
	c.kernel.overall = nil
	c.loop.Status() // so that the loop sees it: its lock is what both take
	time.Sleep(3 * minQuarantineTime)
	c.settled()
	if n := c.right(); n > 0 || len(c.loop.Report().Policies.Troubles) > len(c.rejected()) {
		t.Errorf("still quarantined: %+v", c.loop.Report().Policies)
	}
	if c.kernel.gaps > 0 {
		t.Errorf("%d times no table was in force", c.kernel.gaps)
	}
}

// rejected returns the troubles that the cluster has in any case.
func (c *quarantineCase) rejected() []error {
	return translate.New("node-1", translate.Options{}).Add(c.cluster)
}

// TestFrameRefused: if the kernel refuses what every table has, nobody is quarantined, and it is tried again at growing
// intervals.
func TestFrameRefused(t *testing.T) {
	for _, named := range []bool{true, false} {
		for later := range 2 {
			t.Run(fmt.Sprintf("%t/%d", named, later), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) { refuseFrame(t, named, later) })
			})
		}
	}
}

func refuseFrame(t *testing.T, named bool, later int) {
	c := newQuarantineCase(t, random.Source(7), 7)
	c.tell(func(random.Kind) bool { return true })
	if later == 1 {
		c.loop.Synced()
		c.settled()
	}
	refuseUnnamed(c.kernel, map[string]bool{"chain deny-ingress": true})
	if named {
		c.kernel.overall = nil
		c.kernel.refuse = func(one nft.Op) *nft.Refusal {
			if object(one) != "chain deny-ingress" {
				return nil
			}
			return &nft.Refusal{Cause: nft.Unfit, Err: errors.New("refused by the test")}
		}
	}
	if c.loop.Synced(); later == 1 {
		c.loop.Drifted("test")
	}
	time.Sleep(10 * maxBackoff)
	synctest.Wait()
	if c.loop.Status().InSync || len(c.loop.Report().Policies.Troubles) > len(c.rejected()) {
		t.Errorf("status %+v, %+v", c.loop.Status(), c.loop.Report().Policies)
	}
	if c.kernel.failed < 10 || c.kernel.failed > 80 {
		t.Errorf("%d attempts failed in %s", c.kernel.failed, 10*maxBackoff)
	}
	if c.kernel.gaps > 0 {
		t.Errorf("%d times no table was in force", c.kernel.gaps)
	}
	c.kernel.overall, c.kernel.refuse = nil, nil
	c.loop.Status() // so that the loop sees it: its lock is what both take
	time.Sleep(maxBackoff)
	c.settled()
	if n := c.right(); n > 0 {
		t.Errorf("%d flows meet a quarantine", n)
	}
}

// oddPolicy is a policy for one pod, by name.
func oddPolicy(pod string, port int) *networkingv1.NetworkPolicy {
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: pod, UID: types.UID("uid-" + pod)},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"name": pod}},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("192.0.2.0/%d",
					port)}}},
			}},
		},
	}
}

// quarantined returns the policies that are in quarantine.
func (l *Loop) quarantined() []string {
	var all []string
	for _, t := range l.Report().Policies.Troubles {
		if t.Kind == book.Quarantined.String() {
			all = append(all, t.Policies...)
		}
	}
	return all
}

// TestQuarantineTold: a quarantine is reported in the log, once, in an event, the status, the metric, in explanations
// and in the lines about drops; it ends as soon as the policy changes.
func TestQuarantineTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, logged := newModelKernel(), new(bytes.Buffer)
		l, registry := newLoopOf(t, k, "node")
		w := withEvents(t, l)
		l.config.Log = slog.New(slog.NewTextHandler(logged, nil))
		k.refuse = func(one nft.Op) *nft.Refusal {
			if one.Verb == nft.AddElements && strings.HasSuffix(one.Set.Name, "-blocks-4") &&
				one.Elements[0].Addr[12] == 192 {
				return &nft.Refusal{Cause: nft.Unfit, Err: errors.New("refused by the test")}
			}
			return nil
		}
		setLabelledPod(l, "a", "10.0.0.1")
		setLabelledPod(l, "b", "10.0.0.2")
		l.Update(func(o Objects) { o.SetPolicy(oddPolicy("a", 24)) })
		l.Synced()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := l.quarantined(); !slices.Equal(got, []string{"ns/a"}) || !l.Status().InSync {
			t.Fatalf("quarantined %v, status %+v", got, l.Status())
		}
		time.Sleep(3 * quarantineTime)
		synctest.Wait()
		const text = "policies quarantined"
		if n := strings.Count(logged.String(), text); n != 1 ||
			!strings.Contains(logged.String(), "refused by the test") {
			t.Errorf("said %d times:\n%s", n, logged)
		}
		if got := w.texts("a"); len(got) != 1 ||
			!strings.Contains(got[0], "uid-a NetworkPolicyQuarantined: quarantined; its pods are allowed nothing") {
			t.Errorf("events %v", got)
		}
		metrics := gather(t, registry)
		if !strings.Contains(metrics, `netpold_policies{state="quarantined"} 1`) ||
			!strings.Contains(metrics, `netpold_policies{state="effective"} 0`) {
			t.Errorf("metrics:\n%s", metrics)
		}
		e, err := l.Explain(t.Context(), "192.0.2.7", "ns/a:80", false)
		if err != nil || e.Allowed || !strings.Contains(e.Flows[0].Text,
			"isolated by ns/a; quarantined, nothing is allowed: ") {
			t.Errorf("explain: %v, %+v", err, e)
		}
		if e, err := l.Explain(t.Context(), "ns/a", "ns/a:80", false); err != nil || !e.Allowed {
			t.Errorf("explain a pod to itself: %v, %+v", err, e)
		}
		if e, err := l.Explain(t.Context(), "192.0.2.7", "ns/b:80", false); err != nil || !e.Allowed {
			t.Errorf("explain the other pod: %v, %+v", err, e)
		}

		// another refused policy does not disturb
		l.Update(func(o Objects) { o.SetPolicy(oddPolicy("b", 24)) })
		synctest.Wait()
		if got := l.quarantined(); len(got) != 2 || !l.Status().InSync {
			t.Errorf("quarantined %v", got)
		}
		mended := oddPolicy("a", 24)
		mended.Spec.Ingress[0].From[0].IPBlock.CIDR = "198.51.100.0/24"
		failed := k.failed
		l.Update(func(o Objects) { o.SetPolicy(mended) })
		synctest.Wait()
		if got := l.quarantined(); !slices.Equal(got, []string{"ns/b"}) || k.failed != failed ||
			!strings.Contains(logged.String(), "out of quarantine") {
			t.Errorf("quarantined %v, %d attempts failed", got, k.failed-failed)
		}
		if e, err := l.Explain(t.Context(), "198.51.100.7", "ns/a:80", false); err != nil || !e.Allowed {
			t.Errorf("explain the mended policy: %v, %+v", err, e)
		}
		l.Update(func(o Objects) { o.DeletePolicy(types.NamespacedName{Namespace: "ns", Name: "b"}) })
		synctest.Wait()
		if got := l.quarantined(); len(got) > 0 || k.failed != failed {
			t.Errorf("quarantined %v", got)
		}
	})
}

// TestReasonStays: an isolation that is tried again and refused in other words is not reported again.
func TestReasonStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, logged, refusals := newModelKernel(), new(bytes.Buffer), 0
		l, _ := newLoopOf(t, k, "node")
		w := withEvents(t, l)
		l.config.Log = slog.New(slog.NewTextHandler(logged, nil))
		short := errors.New("cannot allocate memory")
		k.overall = func(tx *nft.Transaction) error {
			for _, op := range tx.Ops {
				if op.Verb == nft.AddChain && strings.HasSuffix(op.Chain.Name, "-ns/a") && len(op.Chain.Rules) > 2 {
					refusals++
					return &nft.Refused{Cause: nft.Shortage, Err: fmt.Errorf("send %d bytes: %w", refusals, short)}
				}
			}
			return nil
		}
		setLabelledPod(l, "a", "10.0.0.1")
		l.Update(func(o Objects) { o.SetPolicy(oddPolicy("a", 24)) })
		l.Synced()
		time.Sleep(3 * quarantineTime)
		synctest.Wait()
		said, events := strings.Count(logged.String(), "policies quarantined"), w.texts("a")
		if said != 1 || len(events) != 1 ||
			!strings.HasSuffix(events[0], "since the kernel did not name it: cannot allocate memory") {
			t.Errorf("said %d times, events %v", said, events)
		}
		if refusals < 8 || refusals > 30 {
			t.Errorf("refused %d times in three hours", refusals)
		}
	})
}

// TestNobodyQuarantined: errors unrelated to policies, or possibly caused by others, quarantine nobody.
func TestNobodyQuarantined(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newModelKernel()
		l, _ := newLoopOf(t, k, "node")
		setLabelledPod(l, "a", "10.0.0.1")
		l.Synced()
		synctest.Wait()
		port := 1
		change := func() {
			port++
			l.Update(func(o Objects) { o.SetPolicy(oddPolicy("a", port)) })
		}
		for name, err := range map[string]error{
			"interrupted": errors.New("interrupted"), "gone": context.DeadlineExceeded,
		} {
			k.overall = func(*nft.Transaction) error { return err }
			change()
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if got := l.quarantined(); len(got) > 0 || l.Status().InSync {
				t.Errorf("%s: quarantined %v, status %+v", name, got, l.Status())
			}
			k.overall = nil
			l.Status() // so that the loop sees it: its lock is what both take
			time.Sleep(maxBackoff)
			synctest.Wait()
		}
		failures := 0
		k.refuse = func(one nft.Op) *nft.Refusal {
			if one.Verb == nft.AddChain && strings.HasSuffix(one.Chain.Name, "-ns/a") && failures == 0 {
				failures++
				return &nft.Refusal{Cause: nft.Mismatch, Err: errors.New("no such file or directory")}
			}
			return nil
		}
		l.Update(func(o Objects) { o.DeletePolicy(types.NamespacedName{Namespace: "ns", Name: "a"}) })
		synctest.Wait()
		change()
		time.Sleep(time.Second)
		synctest.Wait()
		if got := l.quarantined(); len(got) > 0 || !l.Status().InSync || failures != 1 {
			t.Errorf("somebody else deleted the table: quarantined %v, status %+v", got, l.Status())
		}
		failures = 0 // and now while it is replaced
		l.Drifted("test")
		time.Sleep(time.Second)
		synctest.Wait()
		if got := l.quarantined(); len(got) > 0 || !l.Status().InSync || failures != 1 {
			t.Errorf("somebody else deleted the table while it was made: quarantined %v, status %+v", got, l.Status())
		}
	})
}

// TestHandoverStays: if the table is refused after the handover was committed, the handover stays in force until the
// table is.
func TestHandoverStays(t *testing.T) {
	for _, err := range []error{errors.New("interrupted"),
		&nft.Refused{Cause: nft.Shortage, Err: errors.New("out of memory")}} {
		synctest.Test(t, func(t *testing.T) {
			c := newQuarantineCase(t, random.Source(7), 7)
			c.tell(func(random.Kind) bool { return true })
			c.loop.Synced()
			c.settled()
			c.kernel.overall = func(tx *nft.Transaction) error {
				if tx.Table == frame.TableName && tx.Replaces() && c.kernel.tables[frame.HandoverTable] != nil {
					return err
				}
				return nil
			}
			c.loop.Drifted("test")
			time.Sleep(time.Minute)
			synctest.Wait()
			if handover := c.kernel.tables[frame.HandoverTable]; handover == nil ||
				handover.Chain("forward") == nil || c.kernel.failed < 5 {
				t.Fatalf("%d attempts failed, the handover: %v", c.kernel.failed, handover)
			}
			c.kernel.overall = nil
			c.loop.Status() // so that the loop sees it: its lock is what both take
			time.Sleep(maxBackoff)
			c.settled()
			if n := c.right(); n > 0 || c.kernel.gaps > 0 || c.kernel.tables[frame.HandoverTable] != nil {
				t.Errorf("%d flows meet a quarantine; %d times no table was in force", n, c.kernel.gaps)
			}
		})
	}
}

// TestSharedPorts: a set of ports that two policies share is refused. Both are quarantined, and no other.
func TestSharedPorts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := newModelKernel()
		l, _ := newLoopOf(t, k, "node")
		k.refuse = func(one nft.Op) *nft.Refusal {
			if one.Verb == nft.AddElements && strings.HasSuffix(one.Set.Name, "-tcp") && one.Elements[0].Port == 20003 {
				return &nft.Refusal{Cause: nft.Unfit, Err: errors.New("refused by the test")}
			}
			return nil
		}
		for i, name := range []string{"a", "b", "c"} {
			setLabelledPod(l, name, fmt.Sprint("10.0.0.", i+1))
			np := oddPolicy(name, 24+i)
			for port := range 300 {
				number := intstr.FromInt(20001 + 2*port + i/2)
				np.Spec.Ingress[0].Ports = append(np.Spec.Ingress[0].Ports,
					networkingv1.NetworkPolicyPort{Port: &number})
			}
			l.Update(func(o Objects) { o.SetPolicy(np) })
		}
		l.Synced()
		synctest.Wait()
		if got := l.quarantined(); !slices.Equal(got, []string{"ns/a", "ns/b"}) || !l.Status().InSync || k.failed != 1 {
			t.Errorf("quarantined %v, %d attempts failed, status %+v", got, k.failed, l.Status())
		}
		if e, err := l.Explain(t.Context(), "192.0.2.1", "ns/c:20002", false); err != nil || !e.Allowed {
			t.Errorf("explain: %v, %+v", err, e)
		}
	})
}

// setLabelledPod sets a pod with its name as label.
func setLabelledPod(l *Loop, name, ip string) {
	l.Update(func(o Objects) {
		o.SetPod(policy.Pod{
			NamespacedName: types.NamespacedName{Namespace: "ns", Name: name}, Node: "node",
			Labels: map[string]string{"name": name},
			IPs:    []netip.Addr{netip.MustParseAddr(ip)}, Running: true,
		})
	})
}

// gather returns the metrics as scraped.
func gather(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w,
		httptest.NewRequest(http.MethodGet, "/metrics", nil))
	return w.Body.String()
}
