// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package cluster

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/netpold/netpold/test/harness/kubelet"
)

// TestKubectl asks two nodes through a real API server's exec, with the rights that docs/kubectl.md names: one netpold
// answers, the other never does.
func TestKubectl(t *testing.T) {
	a := newAgent(t)
	program := filepath.Join(t.TempDir(), "kubectl-netpold")
	build := exec.Command("go", "build", "-o", program, "../../cmd/kubectl-netpold")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build kubectl-netpold: %v: %s", err, out)
	}
	a.kubelet()
	_, err := a.admin.CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}}, metav1.CreateOptions{})
	a.must(err)
	a.pod("shop", "server", "10.1.0.1", map[string]string{"app": "server"})
	a.pod("shop", "client", "10.1.0.2", map[string]string{"app": "client"})
	a.create(policy("shop", "server"))
	a.expect("the client is denied", false, "10.1.0.2", "10.1.0.1", 80)
	user := a.asker()
	expect := func(exit int, args string, want ...string) {
		t.Helper()
		cmd := exec.Command(program, strings.Fields(args+" --timeout 5s --kubeconfig "+user)...)
		cmd.Env = []string{"HOME=" + t.TempDir()}
		out, _ := cmd.CombinedOutput() // its exit code is checked
		if code := cmd.ProcessState.ExitCode(); code != exit {
			t.Errorf("%s: exit %d, want %d", args, code, exit)
		}
		for _, w := range want {
			if !strings.Contains(string(out), w) {
				t.Errorf("%s: no %q in\n%s", args, w, out)
			}
		}
	}
	expect(0, "status shop/server", "shop/server is in force on 1 of the 1 nodes that need it")
	expect(1, "explain shop/client shop/server:80", "denied: isolated by shop/server")
	expect(1, "explain --verify shop/client shop/server:80", "Node node-1 says:", "kernel: ")
	expect(2, "status", "node-1  yes ", "node-2: no answer within 5s")
	expect(2, "drops", "node-1 TCP connection from shop/client", "node-2: no answer within 5s")
	expect(2, "drops -n shpo", "no namespace shpo (did you mean shop?)")
	expect(0, "connectivity -n shop", "shop/server")
	a.kill()
	expect(2, "status shop/server", "no daemon answers in this network namespace")
}

// kubelet runs commands in the netpold pods of node-1 and node-2: on node-1 they ask the netpold of this namespace, on
// node-2 they hang.
func (a *agent) kubelet() {
	a.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kubelet.ServeExec(w, r, func(ctx context.Context, p kubelet.Process) int {
			if strings.Contains(r.URL.Path, "/netpold-2/") {
				_, _ = io.Copy(io.Discard, p.Stdin)
				return 0
			}
			cmd := exec.CommandContext(ctx, a.program, p.Args[1:]...)
			cmd.Stdout, cmd.Stderr = p.Stdout, p.Stderr
			stdin, err := cmd.StdinPipe()
			if err == nil {
				err = a.cluster.thread.do(cmd.Start)
			}
			if err != nil {
				a.Error(err)
				return 126
			}
			go func() {
				_, _ = io.Copy(stdin, p.Stdin)
				_ = stdin.Close() // the process may have ended
			}()
			_ = cmd.Wait() // its exit code is reported
			return cmd.ProcessState.ExitCode()
		})
	}))
	server.StartTLS()
	a.Cleanup(server.CloseClientConnections)
	port := server.Listener.Addr().(*net.TCPAddr).Port
	for node, pod := range map[string]string{agentNode: "netpold-1", "node-2": "netpold-2"} {
		n, err := a.admin.CoreV1().Nodes().Create(a.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node}},
			metav1.CreateOptions{})
		a.must(err)
		n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "127.0.0.1"}}
		n.Status.DaemonEndpoints.KubeletEndpoint.Port = int32(port)
		_, err = a.admin.CoreV1().Nodes().UpdateStatus(a.Context(), n, metav1.UpdateOptions{})
		a.must(err)
		a.must(makePod(a.Context(), a.admin, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: pod,
				Labels: map[string]string{"app.kubernetes.io/name": "netpold"}},
			Spec: corev1.PodSpec{NodeName: node, HostNetwork: true,
				Containers: []corev1.Container{{Name: "netpold", Image: "netpold"}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "127.0.0.1"},
		}))
	}
}

// asker returns the kubeconfig of a user with the rights of docs/kubectl.md.
func (a *agent) asker() string {
	a.Helper()
	rules := []rbacv1.PolicyRule{
		{APIGroups: []string{""}, Resources: []string{"pods", "namespaces"}, Verbs: []string{"list", "watch"}},
		{APIGroups: []string{"networking.k8s.io"}, Resources: []string{"networkpolicies"},
			Verbs: []string{"list", "watch"}},
		{APIGroups: []string{""}, Resources: []string{"nodes"}, Verbs: []string{"list"}},
		{APIGroups: []string{""}, Resources: []string{"pods/exec"}, Verbs: []string{"create"}},
	}
	rbac, name := a.admin.RbacV1(), metav1.ObjectMeta{Name: "asker"}
	_, err := rbac.ClusterRoles().Create(a.Context(), &rbacv1.ClusterRole{ObjectMeta: name, Rules: rules},
		metav1.CreateOptions{})
	a.must(err)
	_, err = rbac.ClusterRoleBindings().Create(a.Context(), &rbacv1.ClusterRoleBinding{ObjectMeta: name,
		RoleRef:  rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "asker"},
		Subjects: []rbacv1.Subject{{Kind: "User", APIGroup: rbacv1.GroupName, Name: "jane"}}}, metav1.CreateOptions{})
	a.must(err)
	user, err := a.cluster.ca.client("jane", "people")
	a.must(err)
	config := rest.CopyConfig(a.cluster.Admin)
	config.CertData, config.KeyData = user.cert, user.key
	path, err := a.cluster.Kubeconfig(config)
	a.must(err)
	return path
}
