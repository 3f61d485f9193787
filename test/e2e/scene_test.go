// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// patience is how long anything may take before a test gives up. No result depends on it.
const patience = 5 * time.Minute

// scene is a namespace of a test: pods on two nodes, with servers and policies.
//
//	server   on the near node, no policy selects it
//	guarded  on the near node; lets in only the pods with role=allowed
//	prober   on the far node; connects to whom it is asked to (agnhost's /dial)
//	distant  on the far node, no policy selects it
//	remote   on the far node; lets in whom guarded does
//
// Pods with role=denied may only reach the prober, and nobody may reach them. Pods with role=allowed may reach guarded,
// and nobody may reach them. No policy selects pods with role=free.
type scene struct {
	*testing.T
	client    *kubernetes.Clientset
	namespace string
	near, far string            // nodes
	addresses map[string]string // of the servers
}

// newScene makes a namespace with servers and policies, which is deleted at the end of the test.
func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{T: t, addresses: make(map[string]string)}
	var err error
	s.client, err = connect()
	s.must(err)
	s.nodes()
	ns, err := s.client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "netpold-e2e-",
		Labels:       map[string]string{"pod-security.kubernetes.io/enforce": "privileged"},
	}}, metav1.CreateOptions{})
	s.must(err)
	s.namespace = ns.Name
	t.Cleanup(func() {
		if t.Failed() && os.Getenv("E2E_KEEP") != "" {
			return
		}
		if err := s.client.CoreV1().Namespaces().Delete(context.Background(), s.namespace,
			metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	s.policies()
	servers := map[string][2]string{"server": {"server", s.near}, "guarded": {"guarded", s.near},
		"prober": {"prober", s.far}, "distant": {"distant", s.far}, "remote": {"guarded", s.far}}
	for name, place := range servers {
		p := s.pod(name, place[0], place[1], "exec /agnhost netexec --http-port=8080")
		p.Spec.Containers[0].ReadinessProbe = &corev1.Probe{PeriodSeconds: 1, ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/hostname", Port: intstr.FromInt32(8080)}}}
		s.create(p)
	}
	s.eventually("the servers are ready", func() bool {
		for name := range servers {
			p, err := s.client.CoreV1().Pods(s.namespace).Get(t.Context(), name, metav1.GetOptions{})
			s.must(err)
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue {
					s.addresses[name] = p.Status.PodIP
				}
			}
		}
		return len(s.addresses) == len(servers)
	})
	return s
}

// nodes chooses two Linux nodes that take pods.
func (s *scene) nodes() {
	s.Helper()
	list, err := s.client.CoreV1().Nodes().List(s.Context(),
		metav1.ListOptions{LabelSelector: "kubernetes.io/os=linux"})
	s.must(err)
	for _, n := range list.Items {
		switch {
		case n.Spec.Unschedulable || len(n.Spec.Taints) > 0:
		case s.near == "":
			s.near = n.Name
		case s.far == "":
			s.far = n.Name
		}
	}
	if s.far == "" {
		s.Fatal("the cluster does not have two Linux nodes without taints")
	}
}

// policies makes the policies described at [scene].
func (s *scene) policies() {
	s.Helper()
	role := func(name string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"role": name}}
	}
	both := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
	for name, spec := range map[string]networkingv1.NetworkPolicySpec{
		"denied": {PolicyTypes: both, PodSelector: *role("denied"), Egress: []networkingv1.NetworkPolicyEgressRule{
			{To: []networkingv1.NetworkPolicyPeer{{PodSelector: role("prober")}}}}},
		"allowed": {PolicyTypes: both, PodSelector: *role("allowed"), Egress: []networkingv1.NetworkPolicyEgressRule{
			{To: []networkingv1.NetworkPolicyPeer{{PodSelector: role("guarded")}}}}},
		"guarded": {PolicyTypes: both[:1], PodSelector: *role("guarded"),
			Ingress: []networkingv1.NetworkPolicyIngressRule{
				{From: []networkingv1.NetworkPolicyPeer{{PodSelector: role("allowed")}}}}},
	} {
		_, err := s.client.NetworkingV1().NetworkPolicies(s.namespace).Create(s.Context(),
			&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: spec}, metav1.CreateOptions{})
		s.must(err)
	}
}

// pod returns a pod of one shell script. The script finds the servers' URLs and its own address in variables.
func (s *scene) pod(name, role, node, script string) *corev1.Pod {
	env := []corev1.EnvVar{{Name: "IP",
		ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}}
	for server, address := range s.addresses {
		env = append(env, corev1.EnvVar{Name: strings.ToUpper(server),
			Value: "http://" + net.JoinHostPort(address, "8080")})
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: s.namespace, Labels: map[string]string{"role": role}},
		Spec: corev1.PodSpec{
			NodeName: node, RestartPolicy: corev1.RestartPolicyNever,
			TerminationGracePeriodSeconds: new(int64), AutomountServiceAccountToken: new(bool),
			Containers: []corev1.Container{{
				Name: "c", Image: *imageFlag, ImagePullPolicy: corev1.PullIfNotPresent,
				Command: []string{"sh", "-c", script}, Env: env,
			}},
		},
	}
}

func (s *scene) create(p *corev1.Pod) {
	s.Helper()
	_, err := s.client.CoreV1().Pods(s.namespace).Create(s.Context(), p, metav1.CreateOptions{})
	s.must(err)
}

// finished waits until all pods of a label have ended and returns what each wrote to /dev/termination-log.
func (s *scene) finished(selector string, n int) map[string]string {
	s.Helper()
	var result map[string]string
	s.eventually(fmt.Sprintf("%d pods %s have ended", n, selector), func() bool {
		list, err := s.client.CoreV1().Pods(s.namespace).List(s.Context(), metav1.ListOptions{LabelSelector: selector})
		s.must(err)
		result = make(map[string]string)
		for _, p := range list.Items {
			if text, ended := lastWords(&p); ended {
				result[p.Name] = text
			}
		}
		return len(result) == n
	})
	return result
}

// lastWords is the termination message of a pod's container.
func lastWords(p *corev1.Pod) (string, bool) {
	for _, c := range p.Status.ContainerStatuses {
		if end := c.State.Terminated; end != nil {
			return end.Message, true
		}
	}
	return "", false
}

// remove deletes pods by label and waits until they are gone.
func (s *scene) remove(selector string) {
	s.Helper()
	o := metav1.ListOptions{LabelSelector: selector}
	s.must(s.client.CoreV1().Pods(s.namespace).DeleteCollection(s.Context(), metav1.DeleteOptions{}, o))
	s.eventually("pods are gone", func() bool {
		list, err := s.client.CoreV1().Pods(s.namespace).List(s.Context(), o)
		s.must(err)
		return len(list.Items) == 0
	})
}

// eventually waits until something holds.
func (s *scene) eventually(what string, holds func() bool) {
	s.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(300 * time.Millisecond) {
		if time.Now().After(end) {
			s.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// daemon returns netpold's pod on a node, or nil while none is running.
func (s *scene) daemon(node string) *corev1.Pod {
	s.Helper()
	list, err := s.client.CoreV1().Pods("").List(s.Context(), metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/name=netpold", FieldSelector: "spec.nodeName=" + node})
	s.must(err)
	for i, p := range list.Items {
		if p.DeletionTimestamp == nil {
			return &list.Items[i]
		}
	}
	return nil
}

// busy keeps all cores of both nodes busy until the test ends.
func (s *scene) busy() {
	s.Helper()
	for _, name := range []string{s.near, s.far} {
		node, err := s.client.CoreV1().Nodes().Get(s.Context(), name, metav1.GetOptions{})
		s.must(err)
		for i := range node.Status.Capacity.Cpu().Value() {
			s.create(s.pod(fmt.Sprintf("busy-%s-%d", name, i), "busy", name, "while :; do :; done"))
		}
	}
	s.eventually("the cores are busy", func() bool {
		list, err := s.client.CoreV1().Pods(s.namespace).List(s.Context(),
			metav1.ListOptions{LabelSelector: "role=busy"})
		s.must(err)
		for _, p := range list.Items {
			if p.Status.Phase != corev1.PodRunning {
				return false
			}
		}
		return true
	})
}

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}
