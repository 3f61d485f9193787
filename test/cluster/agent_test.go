// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/test/harness/prober"
	"github.com/netpold/netpold/watch"
)

// patience ends a test that is stuck; nothing is measured by it.
const patience = 2 * time.Minute

// agent is netpold on the node of a test, with the shipped account, beside the API server and the prober.
type agent struct {
	*testing.T
	cluster    *Cluster
	admin      kubernetes.Interface
	prober     *prober.Prober
	program    string
	kubeconfig string
	flags      []string // of netpold run, beyond what all tests have
	process    *exec.Cmd
	idle       func() // called repeatedly while waiting
	known      int    // requests that an API server refused because it was not ready
}

const agentNode = "node-1"

// newAgent starts a cluster and netpold in the prober's network namespace. The test must stay on its thread.
func newAgent(t *testing.T, flags ...string) *agent {
	t.Helper()
	a := &agent{T: t, flags: flags, program: filepath.Join(t.TempDir(), "netpold"), idle: func() {
		time.Sleep(10 * time.Millisecond)
	}}
	if out, err := exec.Command("go", "build", "-o", a.program, "../../cmd/netpold").CombinedOutput(); err != nil {
		t.Fatalf("build netpold: %v: %s", err, out)
	}
	a.prober = prober.New(t)
	a.cluster = New(t)
	a.admin = client(t, a.cluster.Admin)
	if err := a.cluster.Apply(t.Context(), manifests); err != nil {
		t.Fatal(err)
	}
	config, err := a.cluster.ServiceAccount(t.Context(), "kube-system", "netpold")
	if err != nil {
		t.Fatal(err)
	}
	if a.kubeconfig, err = a.cluster.Kubeconfig(config); err != nil {
		t.Fatal(err)
	}
	a.start()
	t.Cleanup(a.kill)
	return a
}

// start starts netpold and waits until it is ready.
func (a *agent) start() {
	a.Helper()
	a.launch()
	a.until("netpold is ready", func() bool { return exec.Command(a.program, "status").Run() == nil })
}

// launch starts netpold.
func (a *agent) launch() {
	a.Helper()
	args := []string{"run", "--kubeconfig", a.kubeconfig, "--node", agentNode} // and with an owned table, as shipped
	a.process = exec.Command(a.program, append(args, a.flags...)...)
	a.process.Stderr = os.Stderr
	a.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // the thread is the test's
	if err := a.process.Start(); err != nil {
		a.Fatal(err)
	}
}

// kill ends netpold as a crash would.
func (a *agent) kill() {
	_ = a.process.Process.Kill()
	_ = a.process.Wait() // killed
}

// until waits until good is true.
func (a *agent) until(what string, good func() bool) {
	a.Helper()
	for deadline := time.Now().Add(patience); !good(); a.idle() {
		if time.Now().After(deadline) {
			a.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// status asks netpold for its report.
func (a *agent) status() watch.Report {
	a.Helper()
	out, err := exec.Command(a.program, "status", "-o", "json").Output()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || exit.ExitCode() != 1) {
		a.Fatalf("netpold status: %v", err)
	}
	var r watch.Report
	a.must(json.Unmarshal(out, &r))
	return r
}

// expect waits until TCP connections between two addresses are let through, or are not.
func (a *agent) expect(what string, want bool, src, dst string, port uint16) {
	a.Helper()
	probe := prober.Probe{Src: netip.MustParseAddr(src), Dst: netip.MustParseAddr(dst), Proto: nft.TCP, DstPort: port}
	a.until(what, func() bool {
		got, err := a.prober.Run([]prober.Probe{probe})
		if err != nil {
			a.Fatal(err)
		}
		return got[0] == want
	})
}

// must ends the test if there is an error.
func (a *agent) must(err error) {
	a.Helper()
	if err != nil {
		a.Fatal(err)
	}
}

// pod makes a pod that runs at an address, as scheduler and kubelet would.
func (a *agent) pod(namespace, name, ip string, labels map[string]string) {
	a.Helper()
	a.must(makePod(a.Context(), a.admin, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec:       corev1.PodSpec{NodeName: agentNode, Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}},
	}))
}

func makePod(ctx context.Context, admin kubernetes.Interface, p *corev1.Pod) error {
	made, err := admin.CoreV1().Pods(p.Namespace).Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	made.Status = p.Status
	_, err = admin.CoreV1().Pods(p.Namespace).UpdateStatus(ctx, made, metav1.UpdateOptions{})
	return err
}

// merge applies a merge patch to an object.
func (a *agent) merge(patch func(context.Context, string, types.PatchType, []byte) error, name string, change any) {
	a.Helper()
	data, err := json.Marshal(change)
	a.must(err)
	a.must(patch(a.Context(), name, types.MergePatchType, data))
}

func (a *agent) relabelPod(namespace, name string, labels map[string]any) {
	a.Helper()
	a.merge(func(ctx context.Context, name string, typ types.PatchType, data []byte) error {
		_, err := a.admin.CoreV1().Pods(namespace).Patch(ctx, name, typ, data, metav1.PatchOptions{})
		return err
	}, name, map[string]any{"metadata": map[string]any{"labels": labels}})
}

func (a *agent) relabelNamespace(name string, labels map[string]any) {
	a.Helper()
	a.merge(func(ctx context.Context, name string, typ types.PatchType, data []byte) error {
		_, err := a.admin.CoreV1().Namespaces().Patch(ctx, name, typ, data, metav1.PatchOptions{})
		return err
	}, name, map[string]any{"metadata": map[string]any{"labels": labels}})
}

func (a *agent) deletePod(namespace, name string) {
	a.Helper()
	now := int64(0)
	a.must(a.admin.CoreV1().Pods(namespace).Delete(a.Context(), name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
}

// policy returns a policy that allows peers to reach the pods app=server of a namespace, on TCP 80.
func policy(namespace, name string, peers ...networkingv1.NetworkPolicyPeer) *networkingv1.NetworkPolicy {
	port := networkingv1.NetworkPolicyPort{Port: new(intPort(80))}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	np.Spec.PodSelector.MatchLabels = map[string]string{"app": "server"}
	np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress}
	if len(peers) > 0 {
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers,
			Ports: []networkingv1.NetworkPolicyPort{port}}}
	}
	return np
}

func (a *agent) create(np *networkingv1.NetworkPolicy) {
	a.Helper()
	_, err := a.admin.NetworkingV1().NetworkPolicies(np.Namespace).Create(a.Context(), np, metav1.CreateOptions{})
	a.must(err)
}

func selected(labels map[string]string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchLabels: labels}
}

// TestAgent is the life of netpold in a cluster. Its parts build on each other, and run on the namespace's thread.
func TestAgent(t *testing.T) {
	a := newAgent(t)
	for _, name := range []string{"shop", "other"} {
		_, err := a.admin.CoreV1().Namespaces().Create(t.Context(),
			&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
		a.must(err)
	}
	a.pod("shop", "server", "10.1.0.1", map[string]string{"app": "server"})
	a.pod("shop", "client", "10.1.0.2", map[string]string{"app": "client"})
	a.pod("other", "stranger", "10.1.0.3", map[string]string{"app": "client", "access": "granted"})
	a.workshop()
	a.namespaces()
	a.addresses()
	a.away()
	a.burst()
	a.forbidden()
}

// forbidden fails the test if requests were forbidden.
func (a *agent) forbidden() {
	a.Helper()
	all, err := a.cluster.Forbidden()
	if err != nil || len(all) > a.known {
		a.Errorf("forbidden requests: %v %v", all, err)
	}
}

// stopServer stops the API server.
func (a *agent) stopServer() {
	a.Helper()
	a.forbidden()
	a.must(a.cluster.StopAPIServer())
}

// startServer starts the API server again. Until it is ready it refuses requests that it will allow later; those are
// not counted.
func (a *agent) startServer() {
	a.Helper()
	a.must(a.cluster.StartAPIServer(a.Context()))
	all, err := a.cluster.Forbidden()
	a.must(err)
	a.known = len(all)
}

// workshop: deny all, allow by label, still blocked, relabel, allowed; then another port, and no policy.
func (a *agent) workshop() {
	a.expect("without a policy", true, "10.1.0.2", "10.1.0.1", 80)
	a.create(policy("shop", "deny-all"))
	a.expect("deny all", false, "10.1.0.2", "10.1.0.1", 80)
	allow := policy("shop", "allow",
		networkingv1.NetworkPolicyPeer{PodSelector: selected(map[string]string{"access": "granted"})})
	a.create(allow)
	a.relabelPod("shop", "client", map[string]any{"access": "denied"})
	a.expect("another label", false, "10.1.0.2", "10.1.0.1", 80)
	a.relabelPod("shop", "client", map[string]any{"access": "granted"})
	a.expect("the label", true, "10.1.0.2", "10.1.0.1", 80)
	a.expect("the label in another namespace", false, "10.1.0.3", "10.1.0.1", 80)
	allow.Spec.Ingress[0].Ports[0].Port = new(intPort(81))
	_, err := a.admin.NetworkingV1().NetworkPolicies("shop").Update(a.Context(), allow, metav1.UpdateOptions{})
	a.must(err)
	a.expect("another port", false, "10.1.0.2", "10.1.0.1", 80)
	a.expect("the other port", true, "10.1.0.2", "10.1.0.1", 81)
	a.must(a.admin.NetworkingV1().NetworkPolicies("shop").Delete(a.Context(), "allow", metav1.DeleteOptions{}))
	a.expect("the policy is gone", false, "10.1.0.2", "10.1.0.1", 81)
}

// namespaces: a namespaceSelector follows the labels of namespaces.
func (a *agent) namespaces() {
	a.create(policy("shop", "from-friends",
		networkingv1.NetworkPolicyPeer{NamespaceSelector: selected(map[string]string{"friend": "yes"})}))
	a.expect("a namespace without the label", false, "10.1.0.3", "10.1.0.1", 80)
	a.relabelNamespace("other", map[string]any{"friend": "yes"})
	a.expect("a namespace with the label", true, "10.1.0.3", "10.1.0.1", 80)
	a.relabelNamespace("other", map[string]any{"friend": nil})
	a.expect("the label is gone", false, "10.1.0.3", "10.1.0.1", 80)
}

// addresses: an address belongs to its pod, and to nobody after it.
func (a *agent) addresses() {
	a.create(policy("shop", "allow",
		networkingv1.NetworkPolicyPeer{PodSelector: selected(map[string]string{"access": "granted"})}))
	a.expect("a client with the label", true, "10.1.0.2", "10.1.0.1", 80)
	a.deletePod("shop", "client")
	a.expect("a client that is deleted", false, "10.1.0.2", "10.1.0.1", 80)
	a.pod("shop", "next", "10.1.0.2", map[string]string{"app": "client"})
	a.pod("shop", "job", "10.1.0.4", map[string]string{"access": "granted"})
	a.expect("a job that runs", true, "10.1.0.4", "10.1.0.1", 80)
	a.expect("another pod at the address of a deleted one", false, "10.1.0.2", "10.1.0.1", 80)
	a.finish("job")
	a.expect("a job that is over", false, "10.1.0.4", "10.1.0.1", 80)
	a.pod("shop", "heir", "10.1.0.4", map[string]string{"app": "heir"})
	a.relabelPod("shop", "heir", map[string]any{"access": "granted"})
	a.expect("the heir of its address", true, "10.1.0.4", "10.1.0.1", 80)
	a.deletePod("shop", "job")
	a.must(makePod(a.Context(), a.admin, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "host",
			Labels: map[string]string{"access": "granted", "app": "server"}},
		Spec: corev1.PodSpec{NodeName: agentNode, HostNetwork: true,
			Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.9.0.1", PodIPs: []corev1.PodIP{{IP: "10.9.0.1"}}},
	}))
	a.expect("the heir, still", true, "10.1.0.4", "10.1.0.1", 80)
	a.expect("a pod of the host network is no peer", false, "10.9.0.1", "10.1.0.1", 80)
	a.expect("a pod of the host network is not isolated", true, "10.1.0.2", "10.9.0.1", 80)
}

// finish ends a pod of the namespace shop, like a job's.
func (a *agent) finish(name string) {
	a.Helper()
	p, err := a.admin.CoreV1().Pods("shop").Get(a.Context(), name, metav1.GetOptions{})
	a.must(err)
	p.Status.Phase = corev1.PodSucceeded
	_, err = a.admin.CoreV1().Pods("shop").UpdateStatus(a.Context(), p, metav1.UpdateOptions{})
	a.must(err)
}

// away: without an API server the last state stays in force. When it is back, compacted or not, netpold catches up.
func (a *agent) away() {
	a.stopServer()
	a.until("netpold says that the API server is away", func() bool {
		return a.status().Source.AwaySince != nil
	})
	a.expect("an allowed client while the API server is away", true, "10.1.0.4", "10.1.0.1", 80)
	a.expect("a denied client while the API server is away", false, "10.1.0.2", "10.1.0.1", 80)
	a.must(a.cluster.Compact(a.Context()))
	a.startServer()
	a.relabelPod("shop", "next", map[string]any{"access": "granted"})
	a.expect("what happened since", true, "10.1.0.2", "10.1.0.1", 80)
	a.until("netpold says that it is back", func() bool {
		return a.status().Source.AwaySince == nil
	})
}

// burst: 2,000 pods and 200 policies at once, with an outage of the API server in the middle, lead to the same table as
// a fresh start.
func (a *agent) burst() {
	const pods, policies, writers = 2000, 200, 8
	var group sync.WaitGroup
	work := make(chan int)
	failed := make(chan error, pods+policies)
	for range writers {
		group.Go(func() {
			for i := range work {
				if err := a.burstObject(i, pods); err != nil {
					failed <- err
				}
			}
		})
	}
	for i := range pods + policies {
		if i == pods/2 {
			a.stopServer()
			a.startServer()
		}
		work <- i
	}
	close(work)
	group.Wait()
	close(failed)
	for err := range failed {
		a.Fatal(err)
	}
	a.until("all pods and policies are known", func() bool {
		r := a.status()
		return r.InSync && r.Pods.Cluster == pods+5 && r.Policies.Total == policies+3 // with those of the earlier steps
	})
	var grown string
	a.until("the table is at rest", func() bool {
		last := grown
		grown = a.listing()
		return last == grown
	})
	a.kill()
	a.start()
	if fresh := a.listing(); fresh != grown {
		a.Errorf("after the burst the table differs from that of a fresh start:\n%s\nfresh:\n%s", grown, fresh)
	}
}

// burstObject makes the i-th object of the burst, again and again while the API server is away.
func (a *agent) burstObject(i, pods int) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := a.makeBurstObject(i, pods)
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

func (a *agent) makeBurstObject(i, pods int) error {
	if i >= pods {
		np := policy("shop", fmt.Sprintf("burst-%d", i),
			networkingv1.NetworkPolicyPeer{PodSelector: selected(map[string]string{"group": fmt.Sprint(i % 40)})})
		_, err := a.admin.NetworkingV1().NetworkPolicies("shop").Create(a.Context(), np, metav1.CreateOptions{})
		return ignoreExists(err)
	}
	ip := fmt.Sprintf("10.2.%d.%d", i/250, 1+i%250)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("burst-%d", i),
			Labels: map[string]string{"group": fmt.Sprint(i % 40)}},
		Spec: corev1.PodSpec{NodeName: fmt.Sprintf("node-%d", 1+i%20),
			Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}
	status := corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
	if _, err := a.admin.CoreV1().Pods("shop").Create(a.Context(), p,
		metav1.CreateOptions{}); ignoreExists(err) != nil {
		return err
	}
	made, err := a.admin.CoreV1().Pods("shop").Get(a.Context(), p.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	made.Status = status
	_, err = a.admin.CoreV1().Pods("shop").UpdateStatus(a.Context(), made, metav1.UpdateOptions{})
	return err
}

// listing returns the table as nft(8) lists it, without its history: in a fixed order, and without its owner.
func (a *agent) listing() string {
	a.Helper()
	out, err := exec.Command("nft", "-s", "list", "table", "inet", "netpold").Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		a.Fatalf("nft list: %s", exit.Stderr)
	}
	a.must(err)
	listed := netns.Unowned(string(out))
	blocks := strings.Split(strings.TrimSuffix(listed, "}\n"), "\n\n")
	for i := range blocks {
		blocks[i] = strings.TrimSuffix(blocks[i], "\n")
	}
	slices.Sort(blocks)
	return strings.Join(blocks, "\n\n")
}

// ignoreExists returns err, unless it says that the object exists: then an earlier request succeeded and its answer was
// lost.
func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

func intPort(n int) intstr.IntOrString { return intstr.FromInt(n) }
