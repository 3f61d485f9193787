// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package cluster

import (
	"context"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// manifests are the manifests that operators apply.
const manifests = "../../manifests"

// TestManifests checks the shipped manifests with the API server, and that the shipped account has the rights it needs
// and no others.
func TestManifests(t *testing.T) {
	enterNetns(t)
	c := New(t)
	ctx := t.Context()
	if err := c.Validate(ctx, manifests); err != nil {
		t.Fatal(err)
	}
	if err := c.Apply(ctx, manifests); err != nil {
		t.Fatal(err)
	}
	admin, err := kubernetes.NewForConfig(c.Admin)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := admin.AppsV1().DaemonSets("kube-system").Get(ctx, "netpold", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkDaemonSet(t, ds)
	checkListen(t, ds.Spec.Template.Spec.Containers[0])
	checkMemory(t, ds.Spec.Template.Spec.Containers[0])
	config, err := c.ServiceAccount(ctx, "kube-system", ds.Spec.Template.Spec.ServiceAccountName)
	if err != nil {
		t.Fatal(err)
	}
	account, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	checkRules(t, account)
	checkAccount(t, account)

	if err := c.Apply(ctx, filepath.Join(manifests, "minimal")); err != nil {
		t.Fatal(err)
	}
	minimal, err := admin.AppsV1().DaemonSets("kube-system").Get(ctx, "netpold", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	checkMinimal(t, ds, minimal)
}

// checkMinimal: the smaller installation is the other one without the container runtime's socket.
func checkMinimal(t *testing.T, ds, minimal *appsv1.DaemonSet) {
	t.Helper()
	want := ds.Spec.DeepCopy()
	want.Template.Spec.Volumes = nil
	want.Template.Spec.Containers[0].VolumeMounts = nil
	want.Template.Spec.Containers[0].Args = append(want.Template.Spec.Containers[0].Args, "--gate=off")
	if diff := cmp.Diff(*want, minimal.Spec); diff != "" {
		t.Errorf("minimal (-want +got):\n%s", diff)
	}
}

// checkDaemonSet checks the fields in which a mistake would hurt, after the API server's defaulting.
func checkDaemonSet(t *testing.T, ds *appsv1.DaemonSet) {
	t.Helper()
	pod := ds.Spec.Template.Spec
	if len(pod.Containers) != 1 || len(pod.InitContainers) != 0 {
		t.Fatalf("%d containers and %d init containers, want one", len(pod.Containers), len(pod.InitContainers))
	}
	one, zero := "1", "0"
	update := ds.Spec.UpdateStrategy
	for name, fields := range map[string][2]any{
		"container": {pod.Containers[0].SecurityContext, &corev1.SecurityContext{
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"},
				Add: []corev1.Capability{"NET_ADMIN"}},
			RunAsUser:                new(int64),
			AllowPrivilegeEscalation: new(bool),
			ReadOnlyRootFilesystem:   new(true),
		}},
		"pod": {pod.SecurityContext, &corev1.PodSecurityContext{
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		}},
		"namespaces of the host": {[]bool{pod.HostNetwork, pod.HostPID, pod.HostIPC}, []bool{true, false, false}},
		"volumes": {pod.Volumes, []corev1.Volume{{Name: "nri", VolumeSource: corev1.VolumeSource{
			HostPath: &corev1.HostPathVolumeSource{Path: "/var/run/nri", Type: new(corev1.HostPathDirectoryOrCreate)},
		}}}},
		"mounts": {pod.Containers[0].VolumeMounts,
			[]corev1.VolumeMount{{Name: "nri", MountPath: "/var/run/nri", ReadOnly: true}}},
		"priority":    {pod.PriorityClassName, "system-node-critical"},
		"nodes":       {pod.NodeSelector, map[string]string{"kubernetes.io/os": "linux"}},
		"tolerations": {pod.Tolerations, []corev1.Toleration{{Operator: corev1.TolerationOpExists}}},
		"update": {[]string{string(update.Type), update.RollingUpdate.MaxUnavailable.String(),
			update.RollingUpdate.MaxSurge.String()},
			[]string{string(appsv1.RollingUpdateDaemonSetStrategyType), one, zero}},
		"arguments": {pod.Containers[0].Args, []string{"run"}},
	} {
		if diff := cmp.Diff(fields[1], fields[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// checkListen: the probes ask where netpold listens. A variable can be used only by later ones.
func checkListen(t *testing.T, c corev1.Container) {
	t.Helper()
	field := func(name string) int {
		return slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == name })
	}
	host, listen, node := field("HOST_IP"), field("NETPOLD_LISTEN"), field("NODE_NAME")
	if node < 0 || c.Env[node].ValueFrom.FieldRef.FieldPath != "spec.nodeName" ||
		host < 0 || listen < host || c.Env[host].ValueFrom.FieldRef.FieldPath != "status.hostIP" {
		t.Fatalf("environment: %+v", c.Env)
	}
	address, port, err := net.SplitHostPort(c.Env[listen].Value)
	if err != nil || address != "$(HOST_IP)" {
		t.Fatalf("NETPOLD_LISTEN: %s, %v", c.Env[listen].Value, err)
	}
	number, err := net.LookupPort("tcp", port)
	if p := c.Ports[0]; err != nil || len(c.Ports) != 1 || p.Protocol != corev1.ProtocolTCP ||
		int(p.ContainerPort) != number {
		t.Errorf("ports %+v, want port %s alone (%v)", c.Ports, port, err)
	}
	for name, probe := range map[string]struct {
		*corev1.Probe
		path string
	}{"startup": {c.StartupProbe, "/livez"}, "liveness": {c.LivenessProbe, "/livez"},
		"readiness": {c.ReadinessProbe, "/readyz"}} {
		if h := probe.HTTPGet; h == nil || h.Path != probe.path || h.Port.String() != c.Ports[0].Name || h.Host != "" {
			t.Errorf("%s probe: %+v", name, h)
		}
	}
}

// checkMemory: Go's share of the memory limit leaves some to the kernel.
func checkMemory(t *testing.T, c corev1.Container) {
	t.Helper()
	limit := c.Resources.Limits.Memory()
	for _, e := range c.Env {
		if e.Name != "GOMEMLIMIT" {
			continue
		}
		share, err := resource.ParseQuantity(strings.TrimSuffix(e.Value, "B"))
		if err != nil || share.Value() > limit.Value()*4/5 || share.Cmp(*c.Resources.Requests.Memory()) < 0 {
			t.Errorf("GOMEMLIMIT=%s (%v) with a memory limit of %s", e.Value, err, limit)
		}
		return
	}
	t.Error("GOMEMLIMIT is not set")
}

// checkRules: the account has the rules that it needs and no others, except those to ask who it is and what it may do.
func checkRules(t *testing.T, account kubernetes.Interface) {
	t.Helper()
	review, err := account.AuthorizationV1().SelfSubjectRulesReviews().Create(t.Context(),
		&authorizationv1.SelfSubjectRulesReview{
			Spec: authorizationv1.SelfSubjectRulesReviewSpec{Namespace: "kube-system"},
		}, metav1.CreateOptions{})
	if err != nil || review.Status.Incomplete {
		t.Fatalf("rules of the account: %v, %+v", err, review)
	}
	var got []string
	for _, r := range review.Status.ResourceRules {
		if slices.Equal(r.APIGroups, []string{"authorization.k8s.io"}) ||
			slices.Equal(r.APIGroups, []string{"authentication.k8s.io"}) {
			continue // every account has these
		}
		got = append(got, strings.Join(r.Verbs, ",")+" "+strings.Join(r.APIGroups,
			",")+"/"+strings.Join(r.Resources, ","))
	}
	slices.Sort(got)
	want := []string{"create,patch /events", "get /nodes", "get,list,watch /pods,namespaces",
		"get,list,watch networking.k8s.io/networkpolicies",
		"get,list,watch policy.networking.k8s.io/clusternetworkpolicies", "list,watch /nodes"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
}

// checkAccount makes requests that the account may make, and some that it may not.
func checkAccount(t *testing.T, account kubernetes.Interface) {
	t.Helper()
	all := metav1.ListOptions{}
	core, policies := account.CoreV1(), account.NetworkingV1().NetworkPolicies
	watches := func(start func(context.Context, metav1.ListOptions) (watch.Interface,
		error)) func(context.Context) error {
		return func(ctx context.Context) error {
			w, err := start(ctx, all)
			if err == nil {
				w.Stop()
			}
			return err
		}
	}
	for name, tc := range map[string]struct {
		ask     func(context.Context) error
		refused bool
	}{
		"list pods": {func(ctx context.Context) error {
			_, err := core.Pods("").List(ctx, all)
			return err
		}, false},
		"list namespaces": {func(ctx context.Context) error {
			_, err := core.Namespaces().List(ctx, all)
			return err
		}, false},
		"list policies": {func(ctx context.Context) error {
			_, err := policies("").List(ctx, all)
			return err
		}, false},
		"watch pods":       {watches(core.Pods("").Watch), false},
		"watch namespaces": {watches(core.Namespaces().Watch), false},
		"watch policies":   {watches(policies("").Watch), false},
		"list secrets": {func(ctx context.Context) error {
			_, err := core.Secrets("").List(ctx, all)
			return err
		}, true},
		"watch secrets": {watches(core.Secrets("kube-system").Watch), true},
		"list nodes":    {func(ctx context.Context) error { _, err := core.Nodes().List(ctx, all); return err }, false},
		"delete a pod": {func(ctx context.Context) error {
			return core.Pods("default").Delete(ctx, "x", metav1.DeleteOptions{})
		}, true},
		"patch a policy": {func(ctx context.Context) error {
			_, err := policies("default").Patch(ctx, "x", types.MergePatchType, []byte("{}"), metav1.PatchOptions{})
			return err
		}, true},
		"make an event": {func(ctx context.Context) error {
			_, err := core.Events("default").Create(ctx, &corev1.Event{ObjectMeta: metav1.ObjectMeta{Name: "x"}},
				metav1.CreateOptions{})
			return err
		}, false},
		"list events": {func(ctx context.Context) error { _, err := core.Events("").List(ctx, all); return err }, true},
		"delete an event": {func(ctx context.Context) error {
			return core.Events("default").Delete(ctx, "x", metav1.DeleteOptions{})
		}, true},
	} {
		if err := tc.ask(t.Context()); apierrors.IsForbidden(err) != tc.refused || err != nil && !tc.refused {
			t.Errorf("%s: %v, want refused: %t", name, err, tc.refused)
		}
	}
}
