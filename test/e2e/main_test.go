// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package e2e tests on a real cluster, the one that $KUBECONFIG names, that netpold keeps its promises: from a pod's
// first packet, while netpold is killed or updated, and when addresses are reused. It installs the shipped manifests
// and removes them at the end, with the table on each node. The cluster needs two Linux nodes and no other enforcer of
// NetworkPolicy.
//
//	make test-e2e NETPOLD_IMAGE=registry.example/netpold:v1
//
// In the environment:
//
//	KUBECONFIG     the cluster
//	KUBECTL        the program to install with (default kubectl)
//	NETPOLD_IMAGE  what the manifests are to run
//	E2E_INSTALL    no: netpold is installed already, drops and does not reject, and stays
//	E2E_TEST       Kubernetes' e2e.test; its NetworkPolicy specs run last
//	E2E_GINKGO     ginkgo, to run several specs at a time; E2E_PROCS how many (default 4)
//	E2E_ARGS       flags of the test, as `-v -run FirstPacket -pods 20`
//
// The probing pods need a shell, curl and agnhost: Kubernetes' own test image, or the image that -image names.
package e2e

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

var (
	podsFlag  = flag.Int("pods", 50, "`number` of pods for each check of the first packet")
	reuseFlag = flag.Int("reuse", 100,
		"`number` of pods that come and go; more than the addresses of a node, or there is no reuse")
	liveFlag  = flag.Int("live", 8, "`number` of them at a time")
	killFlag  = flag.Bool("kill", true, "kill netpold while pods start; without the guard they are unprotected")
	imageFlag = flag.String("image", "registry.k8s.io/e2e-test-images/agnhost:2.56", "`image` of the pods that probe")
)

// installation is where the manifests install netpold.
const installation = "kube-system"

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(run(m))
}

// run installs netpold, runs the tests and removes it.
func run(m *testing.M) int {
	if os.Getenv("E2E_INSTALL") == "no" {
		return m.Run()
	}
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "netpold-e2e")
	if err == nil {
		defer os.RemoveAll(dir) //nolint:errcheck // a temporary folder
		err = install(ctx, dir)
	}
	code := 1
	if err == nil {
		code = m.Run()
	} else {
		fmt.Fprintln(os.Stderr, "install netpold:", err)
	}
	if err := remove(ctx, dir); err != nil {
		fmt.Fprintln(os.Stderr, "remove netpold:", err)
		code = 1
	}
	return code
}

// install applies an overlay of the manifests with the image, and waits until netpold is ready on every node.
func install(ctx context.Context, dir string) error {
	image := os.Getenv("NETPOLD_IMAGE")
	if image == "" {
		return fmt.Errorf("NETPOLD_IMAGE is not set (and E2E_INSTALL is not no)")
	}
	manifests, err := filepath.Abs("../../manifests")
	if err == nil {
		manifests, err = filepath.Rel(dir, manifests)
	}
	if err != nil {
		return err
	}
	// A name may contain a port; a tag comes after the last slash.
	name, tag := image, "latest"
	if i := strings.LastIndex(image, ":"); i > strings.LastIndex(image, "/") {
		name, tag = image[:i], image[i+1:]
	}
	overlay := fmt.Sprintf("resources: [%s]\nimages: [{name: netpold, newName: %q, newTag: %q}]\n",
		manifests, name, tag)
	if err := os.WriteFile(filepath.Join(dir, "kustomization.yaml"), []byte(overlay), 0o600); err != nil {
		return err
	}
	if _, err := kubectl(ctx, "apply", "-k", dir); err != nil {
		return err
	}
	_, err = kubectl(ctx, "-n", installation, "rollout", "status", "ds/netpold", "--timeout=5m")
	return err
}

// remove deletes what install applied, then the table on each node.
func remove(ctx context.Context, dir string) error {
	if _, err := kubectl(ctx, "delete", "-k", dir, "--ignore-not-found", "--wait"); err != nil {
		return err
	}
	if _, err := kubectl(ctx, "-n", installation, "wait", "pod", "-l", "app.kubernetes.io/name=netpold", "--for=delete",
		"--timeout=2m"); err != nil {
		return err
	}
	client, err := connect()
	if err != nil {
		return err
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/os=linux"})
	if err != nil {
		return err
	}
	for _, n := range nodes.Items {
		if err := cleanup(ctx, client, n.Name); err != nil {
			return fmt.Errorf("cleanup on %s: %w", n.Name, err)
		}
	}
	return nil
}

// cleanup runs `netpold cleanup` on a node.
func cleanup(ctx context.Context, client kubernetes.Interface, node string) error {
	pods := client.CoreV1().Pods(installation)
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "netpold-cleanup-"},
		Spec: corev1.PodSpec{
			NodeName: node, HostNetwork: true, RestartPolicy: corev1.RestartPolicyNever,
			Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
			Containers: []corev1.Container{{
				Name: "netpold", Image: os.Getenv("NETPOLD_IMAGE"), ImagePullPolicy: corev1.PullIfNotPresent,
				Args: []string{"cleanup"},
				SecurityContext: &corev1.SecurityContext{
					RunAsUser: new(int64), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"},
						Add: []corev1.Capability{"NET_ADMIN"}},
				},
			}},
		},
	}
	p, err := pods.Create(ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	_, err = kubectl(ctx, "-n", installation, "wait", "pod", p.Name, "--for=jsonpath={.status.phase}=Succeeded",
		"--timeout=2m")
	if err != nil {
		return err
	}
	return pods.Delete(ctx, p.Name, metav1.DeleteOptions{})
}

// kubectl runs $KUBECTL and returns its output; the error includes its standard error.
func kubectl(ctx context.Context, args ...string) (string, error) {
	program := os.Getenv("KUBECTL")
	if program == "" {
		program = "kubectl"
	}
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("kubectl %s: %w\n%s", strings.Join(args, " "), err, stderr.Bytes())
	}
	return stdout.String(), nil
}

// connect returns a client of the cluster.
func connect() (*kubernetes.Clientset, error) {
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		clientcmd.NewDefaultClientConfigLoadingRules(), &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 100, 200
	return kubernetes.NewForConfig(config)
}
