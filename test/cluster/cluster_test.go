// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const reader = "system:serviceaccount:kube-system:reader"

// TestCluster is the life of a cluster. Its parts build on each other.
func TestCluster(t *testing.T) {
	enterNetns(t)
	start := time.Now()
	c := New(t)
	t.Logf("started after %v", time.Since(start))
	if second, err := Start(t.Context()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second cluster in one namespace: %v, %v, want address in use", second, err)
	}
	_ = t.Run("version", c.testVersion) &&
		t.Run("apply", c.testApply) &&
		t.Run("watch", c.testWatch) &&
		t.Run("forbidden", c.testForbidden) &&
		t.Run("kubeconfig", c.testKubeconfig) &&
		t.Run("restart", c.testRestart) &&
		t.Run("close", c.testClose)
}

func (c *Cluster) testVersion(t *testing.T) {
	got, err := client(t, c.Admin).Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	if got.GitVersion != "v1.34.4" || got.Major != "1" || got.Minor != "34" {
		t.Errorf("server is %+v", got)
	}
}

func (c *Cluster) testApply(t *testing.T) {
	if err := c.Validate(t.Context(), "testdata/base"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.ServiceAccount(t.Context(), "kube-system", "reader"); !apierrors.IsNotFound(err) {
		t.Errorf("after Validate, token of ServiceAccount: %v, want not found", err)
	}
	for range 2 { // the second time changes nothing
		if err := c.Apply(t.Context(), "testdata/base"); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.ServiceAccount(t.Context(), "kube-system", "reader"); err != nil {
		t.Error(err)
	}
	if err := c.Validate(t.Context(), "testdata/wrong"); err == nil || !strings.Contains(err.Error(), "ingres") {
		t.Errorf("a misspelt field: %v, want an error that names it", err)
	}
}

// testWatch makes a running pod, as a kubelet would, and a policy, and sees both in informers.
func (c *Cluster) testWatch(t *testing.T) {
	ctx, admin := t.Context(), client(t, c.Admin)
	factory := informers.NewSharedInformerFactory(admin, 0)
	pods := factory.Core().V1().Pods().Lister()
	policies := factory.Networking().V1().NetworkPolicies().Lister()
	factory.Core().V1().Pods().Informer()
	factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())

	if _, err := admin.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: "ns"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	createPod(t, admin, "web", "10.0.0.5")
	if _, err := admin.NetworkingV1().NetworkPolicies("ns").Create(ctx, &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "deny"},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	wait(t, func() error {
		pod, err := pods.Pods("ns").Get("web")
		if err != nil {
			return err
		}
		if got := fmt.Sprintf("%s %s %s", pod.Spec.NodeName, pod.Status.Phase,
			pod.Status.PodIP); got != "node-1 Running 10.0.0.5" {
			return errors.New(got)
		}
		_, err = policies.NetworkPolicies("ns").Get("deny")
		return err
	})
}

// testForbidden: RBAC is enforced, and exactly the forbidden requests are reported as such.
func (c *Cluster) testForbidden(t *testing.T) {
	ctx, user := t.Context(), client(t, c.reader(t))
	if list, err := user.CoreV1().Pods("").List(ctx, metav1.ListOptions{}); err != nil || len(list.Items) != 1 {
		t.Errorf("list pods: %v, %v", list, err)
	}
	c.wantForbidden(t)
	if _, err := user.CoreV1().Secrets("").List(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list secrets: %v, want forbidden", err)
	}
	if _, err := user.CoreV1().Secrets("ns").Watch(ctx, metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("watch secrets: %v, want forbidden", err)
	}
	c.wantForbidden(t, reader+" list /api/v1/secrets: 403",
		reader+" watch /api/v1/namespaces/ns/secrets?watch=true: 403")
}

// testKubeconfig gives another program the ServiceAccount's rights through a file.
func (c *Cluster) testKubeconfig(t *testing.T) {
	path, err := c.Kubeconfig(c.reader(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ what, want string }{{"pods", "yes"}, {"secrets", "no"}} {
		cmd := exec.Command(c.bin+"/kubectl", "--kubeconfig="+path, "auth", "can-i", "list", tc.what)
		cmd.Env = []string{"HOME=" + t.TempDir()}
		var out strings.Builder
		cmd.Stdout = &out
		if err := c.thread.do(cmd.Start); err != nil {
			t.Fatal(err)
		}
		cmd.Wait() // fails if the answer is "no"
		if got := strings.TrimSpace(out.String()); got != tc.want {
			t.Errorf("may list %s: %q, want %q", tc.what, got, tc.want)
		}
	}
}

// testRestart runs an informer through an outage: the server comes back at its address with all objects, and accepts
// the tokens it issued; the informer cannot resume its watch, so it lists again.
func (c *Cluster) testRestart(t *testing.T) {
	ctx := t.Context()
	factory := informers.NewSharedInformerFactory(client(t, c.reader(t)), 0)
	pods := factory.Core().V1().Pods().Lister()
	factory.Core().V1().Pods().Informer()
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	old, err := pods.Pods("ns").Get("web")
	if err != nil {
		t.Fatal(err)
	}

	if err := c.StopAPIServer(); err != nil {
		t.Fatal(err)
	}
	if err := c.StopAPIServer(); err == nil {
		t.Error("stopped twice without an error")
	}
	if err := client(t, c.Admin).RESTClient().Get().AbsPath("/readyz").Do(ctx).Error(); !errors.Is(err,
		syscall.ECONNREFUSED) {
		t.Errorf("while stopped: %v, want connection refused", err)
	}
	before := c.requests(t, reader)
	for range 2 { // the second has hardly anything to compact
		if err := c.Compact(ctx); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	if err := c.StartAPIServer(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("started again after %v", time.Since(start))
	if err := c.StartAPIServer(ctx); err == nil {
		t.Error("started twice without an error")
	}
	createPod(t, client(t, c.Admin), "late", "10.0.0.6")
	wait(t, func() error {
		pod, err := pods.Pods("ns").Get("late")
		if err == nil && pod.Status.PodIP == "" {
			return errors.New("no address yet")
		}
		return err
	})
	again := func(r Request) bool { return r.Verb == "list" || strings.Contains(r.URI, "sendInitialEvents=true") }
	if since := c.requests(t, reader)[len(before):]; !slices.ContainsFunc(since, again) {
		t.Errorf("since the restart the informer did not list: %v", since)
	}
	c.wantGone(t, old.ResourceVersion)
}

// wantGone fails the test unless a watch at the revision gets 410 Gone, as an event.
func (c *Cluster) wantGone(t *testing.T, revision string) {
	t.Helper()
	w, err := client(t, c.reader(t)).CoreV1().Pods("ns").Watch(t.Context(),
		metav1.ListOptions{ResourceVersion: revision})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	event := <-w.ResultChan()
	if err := apierrors.FromObject(event.Object); !apierrors.IsResourceExpired(err) {
		t.Errorf("watch at revision %s: %v, want that it expired", revision, err)
	}
}

// testClose shows that neither processes, files nor an open port remain.
func (c *Cluster) testClose(t *testing.T) {
	dir, pids := c.dir, c.pids()
	for range 2 {
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, pid := range pids {
		if alive(pid) {
			t.Errorf("process %d outlived the cluster", pid)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after Close, %s: %v", dir, err)
	}
	if err := client(t, c.Admin).RESTClient().Get().AbsPath("/readyz").Do(t.Context()).Error(); !errors.Is(err,
		syscall.ECONNREFUSED) {
		t.Errorf("after Close: %v, want connection refused", err)
	}
}

// TestKilled kills a process that runs a cluster. The servers must not outlive it.
func TestKilled(t *testing.T) {
	const child = "NETPOLD_CLUSTER_CHILD"
	if os.Getenv(child) != "" {
		enterNetns(t)
		fmt.Println("pids", strings.Trim(fmt.Sprint(New(t).pids()), "[]"))
		select {}
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), child+"=1", "TMPDIR="+t.TempDir())
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()

	var pids [2]int
	for lines := bufio.NewScanner(out); pids[1] == 0; {
		if !lines.Scan() {
			t.Fatal("the other process ended without a cluster")
		}
		fmt.Sscanf(lines.Text(), "pids %d %d", &pids[0], &pids[1])
	}
	for _, pid := range pids {
		if !alive(pid) {
			t.Errorf("process %d is not running", pid)
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	wait(t, func() error {
		for _, pid := range pids {
			if alive(pid) {
				return fmt.Errorf("process %d is still running", pid)
			}
		}
		return nil
	})
}

// TestServerEnds waits for a server that ends instead, and wants to know why.
func TestServerEnds(t *testing.T) {
	thread, err := newThread()
	if err != nil {
		t.Fatal(err)
	}
	defer thread.close()
	p, err := thread.start("/bin/sh", t.TempDir()+"/log", "-c", "echo no such flag; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	err = p.ready(t.Context(), func(context.Context) error { return errors.New("not ready") })
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no such flag") {
		t.Errorf("got %v, want the exit status and the log", err)
	}
	if err := p.kill(); err != nil {
		t.Errorf("kill what is gone: %v", err)
	}
}

// enterNetns moves the test to its own network namespace with loopback up.
func enterNetns(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // and never unlock: the thread ends with the test
	if err := syscall.Unshare(syscall.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// reader returns the config of the ServiceAccount in testdata/base.
func (c *Cluster) reader(t *testing.T) *rest.Config {
	t.Helper()
	config, err := c.ServiceAccount(t.Context(), "kube-system", "reader")
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// wantForbidden fails the test unless exactly these requests were refused.
func (c *Cluster) wantForbidden(t *testing.T, want ...string) {
	t.Helper()
	got, err := c.Forbidden()
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("forbidden: %q, %v, want %q", got, err, want)
	}
}

// requests returns the requests of one user.
func (c *Cluster) requests(t *testing.T, user string) []Request {
	t.Helper()
	all, err := c.Requests()
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(all, func(r Request) bool { return r.User != user })
}

func (c *Cluster) pids() []int {
	return []int{c.etcd.cmd.Process.Pid, c.apiServer.cmd.Process.Pid}
}

func client(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// createPod makes a pod on a node and gives it its status.
func createPod(t *testing.T, admin *kubernetes.Clientset, name, ip string) {
	t.Helper()
	pods := admin.CoreV1().Pods("ns")
	pod, err := pods.Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}}}
	if _, err := pods.UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// wait fails the test unless check succeeds within half a minute.
func wait(t *testing.T, check func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := poll(ctx, func(context.Context) error { return check() }); err != nil {
		t.Fatal(err)
	}
}

// alive says whether a process is running; a zombie is not.
func alive(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
