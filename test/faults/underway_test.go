// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"context"
	"flag"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/test/harness/train"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// changes is how often a churn changes the policies. To do more: go test ./test/faults -run=TestUnderWay -changes=5000
var changes = flag.Int("changes", 100, "how often each churn changes the policies while packets are under way")

// TestUnderWay changes policies as fast as it can while packets are in flight. What is allowed before and after must
// pass, what is denied before and after must not.
func TestUnderWay(t *testing.T) {
	p := prober.New(t)
	conn := connect(t)
	for _, c := range churns(t) {
		stop := make(chan struct{})
		loop, applied := enforce(t, conn, c.cluster(0), stop)
		seen := observe(t, p, c, func(change func(editor)) {
			for i := range *changes {
				loop.Update(func(o watch.Objects) { change(o) })
				select {
				case <-applied:
				case <-time.After(10 * time.Millisecond):
					// it may have undone the change before, which had not been committed
				}
				for range 2 * (i % 10 / 9) { // now and then, until retired chains are gone
					_ = conn.Settle(t.Context())
				}
			}
		})
		close(stop)
		for range applied { // until it has ended
		}
		if err := conn.DeleteTable(t.Context(), frame.TableName); err != nil {
			t.Fatal(err)
		}
		t.Logf("%s: %d packets in %d changes: %d denied, %d leaked", c.name, seen.packets, *changes,
			seen.denied, seen.leaked)
		if seen.denied+seen.leaked > 0 {
			t.Errorf("%s: the first is %s", c.name, seen.first)
		}
	}
}

// TestUnderWayControl deletes chains in the same transaction as the references to them, as netpold once did: now and
// then a packet is wrongly denied.
func TestUnderWayControl(t *testing.T) {
	if runtime.NumCPU() == 1 {
		t.Skip("on one CPU no packet is in flight while the kernel commits")
	}
	p := prober.New(t)
	conn := connect(t)
	all := churns(t)
	for _, name := range []string{"ranges, and a policy without rules", "single ports or ranges"} {
		c := all[slices.IndexFunc(all, func(c churn) bool { return c.name == name })]
		made, packets, denied := 0, 0, 0
		state := translate.New(train.Node, translate.Options{})
		state.Add(c.cluster(0))
		commit(t, conn, state)
		for deadline := time.Now().Add(*patience); denied == 0 && !t.Failed() && time.Now().Before(deadline); {
			seen := observe(t, p, c, func(change func(editor)) {
				for range *changes {
					change(stateEditor{state})
					commit(t, conn, state)
				}
			})
			made, packets, denied = made+*changes, packets+seen.packets, denied+seen.denied
		}
		t.Logf("%s, all at once: %d packets in %d changes: %d denied", name, packets, made, denied)
		if denied == 0 {
			t.Errorf("%s: nothing was denied, so this test cannot see the fault", name)
		}
	}
}

// commit sends everything to the kernel at once.
func commit(t *testing.T, conn *kernel.Conn, s *translate.State) {
	for _, tx := range atOnce(s.Complete()) {
		if _, err := conn.Apply(t.Context(), tx); err != nil {
			t.Errorf("%v in\n%s", err, tx)
		}
	}
}

// atOnce returns a table's pending changes as two transactions: what is new, and then the rest with what is retired.
func atOnce(table *nft.Table) []*nft.Transaction {
	tx := table.Take()
	table.Reap(table.Retired())
	ops := tx.Ops
	if later := table.Take(); later != nil {
		ops = slices.Concat(ops, later.Ops)
	}
	if tx.Replaces() {
		return []*nft.Transaction{tx}
	}
	first, rest := *tx, *tx
	first.Ops, rest.Ops = nil, nil
	for _, op := range ops {
		if op.Unreached {
			first.Ops = append(first.Ops, op)
			continue
		}
		op.Unreached = true // so that it is not split
		rest.Ops = append(rest.Ops, op)
	}
	return []*nft.Transaction{&first, &rest}
}

// connect connects to the namespace of the test.
func connect(t *testing.T) *kernel.Conn {
	t.Helper()
	conn, err := kernel.Open(kernel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// tapped is a kernel that reports each transaction.
type tapped struct {
	*kernel.Conn
	applied chan struct{}
}

func (k tapped) Apply(ctx context.Context, tx *nft.Transaction) (nft.Result, error) {
	result, err := k.Conn.Apply(ctx, tx)
	select {
	case k.applied <- struct{}{}:
	default: // nobody waits
	}
	return result, err
}

// enforce runs a loop on a cluster until stop is closed, and returns when the cluster is in force. A channel, closed at
// the end, reports its transactions.
func enforce(t *testing.T, conn *kernel.Conn, c *policy.Cluster, stop <-chan struct{}) (*watch.Loop, <-chan struct{}) {
	t.Helper()
	state := translate.New(train.Node, translate.Options{})
	if errs := state.Add(c); len(errs) > 0 {
		t.Fatal(errs)
	}
	k := tapped{conn, make(chan struct{}, 1)}
	loop := watch.NewLoop(state, watch.LoopConfig{
		Kernel: k, Log: slog.New(slog.DiscardHandler), Source: "test",
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-stop; cancel() }()
	go func() { loop.Run(ctx); close(k.applied) }()
	loop.Synced()
	for !loop.Status().InSync {
		pause()
	}
	return loop, k.applied
}

// stateEditor edits a state as a loop does.
type stateEditor struct{ *translate.State }

func (s stateEditor) SetPolicy(np *networkingv1.NetworkPolicy) { _ = s.State.SetPolicy(np) }

// observed is what happened to packets.
type observed struct {
	packets, denied, leaked int
	first                   prober.Probe // that went wrong
}

// observe sends packets that both clusters of the churn treat the same, while do changes one into the other.
func observe(t *testing.T, p *prober.Prober, c churn, do func(change func(editor))) observed {
	t.Helper()
	probes, passes := c.probes()
	var seen observed
	step := func() {
		got, err := p.Run(probes)
		if err != nil {
			t.Fatal(err)
		}
		for i, passed := range got {
			if passed == passes[i] {
				continue
			}
			if seen.denied+seen.leaked == 0 {
				seen.first = probes[i]
			}
			if passed {
				seen.leaked++
			} else {
				seen.denied++
			}
		}
		seen.packets += len(got)
	}
	if step(); seen.denied+seen.leaked > 0 || !slices.Contains(passes, true) {
		t.Fatalf("%s: before any change, %d denied and %d leaked of %d, the first is %s", c.name, seen.denied,
			seen.leaked, seen.packets, seen.first)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		to := 0
		do(func(o editor) {
			to = 1 - to
			c.edit(to, o)
		})
	}()
	for {
		select {
		case <-done:
			step()
			return seen
		default:
			step()
		}
	}
}

// probes returns connections that both clusters treat the same, and whether they pass.
func (c churn) probes() (probes []prober.Probe, passes []bool) {
	a, b := c.cluster(0), c.cluster(1)
	web := pod("web", "node-1", 1, 1)
	for i, address := range web.IPs {
		for _, peer := range []policy.Pod{pod("client", "node-2", 2, 1), pod("other", "node-2", 2, 2), web} {
			for _, port := range []uint16{80, 53, 1500, 5000} {
				for _, ends := range [][2]netip.Addr{{peer.IPs[i], address}, {address, peer.IPs[i]}} {
					f := policy.Flow{Src: ends[0], Dst: ends[1], Proto: nft.TCP, DstPort: port}
					if port == 53 {
						f.Proto = nft.UDP
					}
					if allowed := allows(a, f); allowed == allows(b, f) {
						probes = append(probes, prober.Probe{Src: f.Src, Dst: f.Dst, Proto: f.Proto,
							DstPort: f.DstPort})
						passes = append(passes, allowed)
					}
				}
			}
		}
	}
	return probes, passes
}

// allows says whether the policies allow a flow in the directions that the node decides.
func allows(c *policy.Cluster, f policy.Flow) bool {
	e := c.Explain(f)
	for _, d := range []policy.Decision{e.Egress, e.Ingress} {
		if d.Pod != nil && d.Pod.Node == "node-1" && !d.Allowed {
			return false
		}
	}
	return true
}
