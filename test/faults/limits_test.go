// SPDX-License-Identifier: Apache-2.0

package faults_test

import (
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/apiserver"
	"github.com/netpold/netpold/test/harness/cgroup"
	"github.com/netpold/netpold/test/harness/cpu"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/content"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// The namespace big asks for bigPolicies × bigPeers × bigPorts elements, 576,000, of which it gets what the default
// limit allows.
const (
	bigPolicies = 24
	bigPeers    = 3000
	bigKinds    = 3 // of peers, so that no selector matches enough pods to be shared by all policies
	bigPorts    = 8
	perPolicy   = bigPeers * bigPorts
)

// Limits for a change in the namespace canary. It takes at most 4 operations, and a tenth of the factor, on any
// machine.
const (
	canaryRounds     = 100
	canaryOperations = 20
	canaryFactor     = 5 // of the CPU time on a node without the other namespace
	canaryDelay      = 4 // transactions until it is in force, during those of the other namespace
)

// testLimits: while a namespace's policies take all that they can get, another namespace's changes stay small and come
// next; and everything fits in the DaemonSet's memory, even when netpold restarts and the kernel has two tables for a
// moment.
func testLimits(t *testing.T, program string) {
	group, err := cgroup.New()
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { removed(t, group) })
	limit, env := shipped(t)
	if err := group.Limit(limit); err != nil {
		t.Skip(err)
	}
	netns.Enter(t)
	l := newFull(t, program)
	l.group, l.env = group, env
	l.start()
	empty := l.canary("without the other namespace")
	l.fill()
	full := l.canary("beside a full namespace")
	if full.cpu > canaryFactor*empty.cpu {
		t.Errorf("a change in another namespace takes %v of CPU time, %v without the full one", full.cpu, empty.cpu)
	}
	l.during("a full namespace changes", func(i int) bool {
		l.server.Send(watch.Modified, bigPolicy(i, ports(1000+100*i, bigPorts)))
		return i < 5
	})
	l.unharmed(limit)
	l.end(unix.SIGKILL)
	l.serve(append(l.bigPolicies(), allow("canary", "web", "client", ports(80, 1)))...)
	l.start()
	l.named()
	l.canary("after a restart")
	l.unharmed(limit)
}

// removed removes a cgroup when its processes have ended.
func removed(t *testing.T, group *cgroup.Group) {
	var err error
	for range 100 {
		if err = group.Remove(); err == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error(err)
}

// shipped returns the memory limit of the DaemonSet, and the memory settings in its environment.
func shipped(t *testing.T) (limit int64, env []string) {
	t.Helper()
	text, err := os.ReadFile("../../manifests/base/daemonset.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var ds appsv1.DaemonSet
	if err := yaml.Unmarshal(text, &ds); err != nil {
		t.Fatal(err)
	}
	c := ds.Spec.Template.Spec.Containers[0]
	limit = c.Resources.Limits.Memory().Value()
	i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
	if limit == 0 || i < 0 {
		t.Fatalf("the DaemonSet has a memory limit of %d, and the environment %v", limit, c.Env)
	}
	return limit, []string{"GOMEMLIMIT=" + c.Env[i].Value}
}

// full is a daemon, its source, which has a full namespace and another one, the canary, and a connection to look at the
// kernel's table.
type full struct {
	*daemon
	reader *kernel.Reader
	ports  *nft.Set // of the canary's policy
	change int      // the last of the canary
}

// newFull returns one with the pods of both namespaces, and only the canary's policy.
func newFull(t *testing.T, program string) *full {
	t.Helper()
	l := &full{daemon: newDaemon(t, program, pause)}
	mirror := translate.New("node-1", translate.Options{})
	for p := range canaryPods() {
		pod, _, err := policy.PodFrom(p)
		if err != nil {
			t.Fatal(err)
		}
		mirror.SetPod(pod)
	}
	np := allow("canary", "web", "client", ports(80, 1))
	if err := mirror.SetPolicy(np); err != nil {
		t.Fatal(err)
	}
	for _, s := range mirror.Complete().Sets() {
		if s.Type.Fields == nft.AddrProtoPort && s.Len() > 0 {
			l.ports = s
		}
	}
	l.serve(np)
	var err error
	if l.reader, err = kernel.OpenReader(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.reader.Close() })
	return l
}

// serve gives the daemon an API server with all pods and some policies.
func (l *full) serve(policies ...*networkingv1.NetworkPolicy) {
	l.server = apiserver.New(apiserver.Objects{
		Pods: func(yield func(runtime.Object) bool) {
			for _, pods := range []iter.Seq[*corev1.Pod]{canaryPods(), bigPods()} {
				for p := range pods {
					if !yield(p) {
						return
					}
				}
			}
		},
		Policies: func(yield func(runtime.Object) bool) {
			for _, np := range policies {
				if !yield(np) {
					return
				}
			}
		},
	})
	l.t.Cleanup(l.server.Close)
}

// client is the address of the pod that the canary's policy allows.
func client() netip.Addr { return netip.MustParseAddr("10.2.0.2") }

func canaryPods() iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		if yield(podAt("canary", "web", "node-1", netip.MustParseAddr("10.2.0.1"))) {
			yield(podAt("canary", "client", "node-2", client()))
		}
	}
}

func bigPods() iter.Seq[*corev1.Pod] {
	return func(yield func(*corev1.Pod) bool) {
		for i := range bigPolicies + bigPeers {
			a := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)})
			p := podAt("big", fmt.Sprintf("app-%02d", i), "node-1", a)
			if i >= bigPolicies {
				p = podAt("big", fmt.Sprint("peer-", i%bigKinds), "node-2", a)
				p.Name += fmt.Sprint("-", i)
			}
			if !yield(p) {
				return
			}
		}
	}
}

// podAt is a running pod with its name as a label.
func podAt(namespace, name, node string, a netip.Addr) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Labels = map[string]string{"app": name}
	p.Spec.NodeName = node
	p.Status.Phase, p.Status.PodIPs = corev1.PodRunning, []corev1.PodIP{{IP: a.String()}}
	return p
}

// ports is n TCP ports from first on, every other one.
func ports(first, n int) []networkingv1.NetworkPolicyPort {
	all := make([]networkingv1.NetworkPolicyPort, n)
	for i := range all {
		number := intstr.FromInt(first + 2*i)
		all[i].Port = &number
	}
	return all
}

// allow is a policy that allows pods with one label to reach those labelled with the policy's name, on some ports.
func allow(namespace, name, from string, ports []networkingv1.NetworkPolicyPort) *networkingv1.NetworkPolicy {
	app := func(name string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}
	}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	np.Spec.PodSelector = *app(name)
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
		From: []networkingv1.NetworkPolicyPeer{{PodSelector: app(from)}}, Ports: ports,
	}}
	return np
}

// bigPolicy is a policy of the namespace big.
func bigPolicy(i int, ports []networkingv1.NetworkPolicyPort) *networkingv1.NetworkPolicy {
	np := allow("big", fmt.Sprintf("app-%02d", i), "peer-0", ports)
	for kind := 1; kind < bigKinds; kind++ {
		more := allow("big", np.Name, fmt.Sprint("peer-", kind), nil).Spec.Ingress[0]
		np.Spec.Ingress[0].From = append(np.Spec.Ingress[0].From, more.From...)
	}
	return np
}

// next changes the canary's policy, and returns the element that shows the change in the kernel.
func (l *full) next() nft.Key {
	l.change++
	port := 1000 + l.change
	l.server.Send(watch.Modified, allow("canary", "web", "client", ports(port, 1)))
	return nft.PortKey(client(), nft.TCP, uint16(port))
}

// holds says whether the kernel has an element of the canary's set.
func (l *full) holds(k nft.Key) bool {
	l.t.Helper()
	_, err := l.reader.Element(l.t.Context(), frame.TableName, l.ports, k)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		l.t.Fatal(err)
	}
	return err == nil
}

// cost is what changes of the canary cost on average.
type cost struct{ cpu time.Duration }

// canary changes a policy and a pod of the canary several times. Each change must be in the next transaction.
func (l *full) canary(what string) cost {
	l.t.Helper()
	begin := time.Now()
	for settled := 0; settled < 5; settled++ { // and so does memory that is used only now and then
		l.drain()
		k := l.next()
		l.await(transaction)
		if !l.holds(k) { // earlier work still goes on
			settled = 0
		}
		if time.Since(begin) > *patience {
			l.t.Fatalf("%s: netpold does not settle", what)
		}
	}
	before, err := cpu.Process(l.process.Process.Pid)
	if err != nil {
		l.t.Fatal(err)
	}
	var took []time.Duration
	most := 0
	committed := func(send func()) {
		begin, operations := time.Now(), 0
		send()
		line := l.await(transaction)
		took = append(took, time.Since(begin))
		_, rest, _ := strings.Cut(line, "operations=")
		if _, err := fmt.Sscan(rest, &operations); err != nil {
			l.t.Fatal(line)
		}
		most = max(most, operations)
	}
	for range canaryRounds {
		var k nft.Key
		committed(func() { k = l.next() })
		if !l.holds(k) {
			l.t.Fatalf("%s: the next transaction does not have the change", what)
		}
		gone := podAt("canary", "client", "node-2", client())
		committed(func() { l.server.Send(watch.Deleted, gone) })
		committed(func() { l.server.Send(watch.Added, gone.DeepCopy()) })
	}
	after, err := cpu.Process(l.process.Process.Pid)
	if err != nil {
		l.t.Fatal(err)
	}
	c := cost{(after - before) / time.Duration(len(took))}
	slices.Sort(took)
	l.t.Logf("%s: %d changes, each the next transaction, of %d operations at most; %v of CPU time each",
		what, len(took), most, c.cpu)
	l.t.Logf("%s: event to kernel %v, %v at most", what, took[len(took)/2], took[len(took)-1])
	if most > canaryOperations {
		l.t.Errorf("%s: a change in another namespace takes %d operations", what, most)
	}
	return c
}

// bigPolicies returns the policies of the namespace big.
func (l *full) bigPolicies() []*networkingv1.NetworkPolicy {
	all := make([]*networkingv1.NetworkPolicy, bigPolicies)
	for i := range all {
		all[i] = bigPolicy(i, ports(10_000, bigPorts))
	}
	return all
}

// fill makes the policies of the namespace, more than it may have elements for.
func (l *full) fill() {
	l.t.Helper()
	for _, np := range l.bigPolicies() {
		l.server.Send(watch.Added, np)
	}
	l.during("a namespace is filled", func(int) bool {
		return l.report().Table.Elements < content.DefaultLimits().Namespace-perPolicy
	})
	l.named()
}

// named checks that the namespace gets what its limit allows, and is reported for the rest.
func (l *full) named() {
	l.t.Helper()
	var r = l.report()
	for deadline := time.Now().Add(*patience); !r.InSync && time.Now().Before(deadline); r = l.report() {
		pause()
	}
	fits := content.DefaultLimits().Namespace / perPolicy
	l.t.Logf("%d elements in %d transactions", r.Table.Elements, r.Transactions)
	if least := fits * perPolicy; !r.InSync || r.Table.Elements < least || r.Table.Elements > least+100 ||
		r.Policies.Troubled["over-limit"] != bigPolicies-fits {
		l.t.Errorf("in sync: %t, %d elements, want %d and few; %v", r.InSync, r.Table.Elements, least,
			r.Policies.Troubled)
	}
}

// during changes the canary while something happens in the namespace big. going, called before each change, says
// whether it still does. Each change must be in force after a few transactions.
func (l *full) during(what string, goesOn func(i int) bool) {
	l.t.Helper()
	var took []time.Duration
	most, changes := 0, 0
	for more := true; more; changes++ {
		more = goesOn(changes)
		l.drain()
		begin := time.Now()
		for k := l.next(); !l.holds(k); pause() {
			if time.Since(begin) > *patience {
				l.t.Fatalf("%s: a change in another namespace is not in force", what)
			}
		}
		took = append(took, time.Since(begin))
		most = max(most, l.drain())
	}
	l.t.Logf("%s: %d changes of another one, each in force after %d transactions at most; event to kernel %v at most",
		what, changes, most, slices.Max(took))
	if most > canaryDelay {
		l.t.Errorf("%s: a change of another one waits for %d transactions", what, most)
	}
}

// drain returns how many transactions were logged since the last call.
func (l *full) drain() (transactions int) {
	for {
		select {
		case line := <-l.lines:
			if strings.Contains(line, transaction) {
				transactions++
			}
		default:
			return transactions
		}
	}
}

// unharmed compares the memory of the daemon and its table with the limit.
func (l *full) unharmed(limit int64) {
	l.t.Helper()
	kills, err := l.group.Kills()
	if err != nil || kills != 0 {
		l.t.Errorf("%d processes were killed: %v", kills, err)
	}
	used, err1 := l.group.Used()
	charged, err2 := l.group.Kernel()
	if err := errors.Join(err1, err2); err != nil {
		l.t.Error(err)
	}
	peak, err := l.group.Peak() // version 2 does not report it before Linux 5.19
	l.t.Logf("%d MiB, %d of them the kernel's, %d at most, of %d", used>>20, charged>>20, peak>>20, limit>>20)
	if err == nil && peak >= limit {
		l.t.Errorf("%d bytes at most, the limit is %d", peak, limit)
	}
}
