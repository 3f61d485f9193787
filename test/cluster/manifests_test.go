// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package cluster

import (
	"context"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// manifests are what operators apply.
const manifests = "../../manifests"

// TestManifests holds the shipped manifests against the API server, and the shipped account to what it needs.
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
	config, err := c.ServiceAccount(ctx, "kube-system", "netpold")
	if err != nil {
		t.Fatal(err)
	}
	account, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	checkAccount(t, account)
}

// checkDaemonSet looks at the fields in which a mistake would hurt.
func checkDaemonSet(t *testing.T, ds *appsv1.DaemonSet) {
	t.Helper()
	pod := ds.Spec.Template.Spec
	container := pod.Containers[0]
	security := container.SecurityContext
	if caps := security.Capabilities; len(caps.Add) != 1 || caps.Add[0] != "NET_ADMIN" || len(caps.Drop) != 1 || caps.Drop[0] != "ALL" {
		t.Errorf("capabilities: %+v", caps)
	}
	if *security.AllowPrivilegeEscalation || !*security.ReadOnlyRootFilesystem || security.Privileged != nil {
		t.Errorf("security context: %+v", security)
	}
	if !pod.HostNetwork || pod.PriorityClassName != "system-node-critical" || len(pod.Volumes) != 0 {
		t.Errorf("pod: host network %t, priority %s, volumes %v", pod.HostNetwork, pod.PriorityClassName, pod.Volumes)
	}
	if pod.SecurityContext.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault || pod.Tolerations[0].Operator != corev1.TolerationOpExists {
		t.Errorf("pod: seccomp %+v, tolerations %+v", pod.SecurityContext.SeccompProfile, pod.Tolerations)
	}
	for path, probe := range map[string]*corev1.Probe{"/livez": container.LivenessProbe, "/readyz": container.ReadinessProbe} {
		if probe.HTTPGet.Path != path || probe.HTTPGet.Port.String() != container.Ports[0].Name {
			t.Errorf("probe %s: %+v", path, probe.HTTPGet)
		}
	}
	if update := ds.Spec.UpdateStrategy.RollingUpdate; update.MaxUnavailable.IntValue() != 1 || update.MaxSurge.IntValue() != 0 {
		t.Errorf("update strategy: %+v", update)
	}
}

// checkAccount asks for what the account may have, and for what it may not.
func checkAccount(t *testing.T, account kubernetes.Interface) {
	t.Helper()
	ctx, all := t.Context(), metav1.ListOptions{}
	for name, tc := range map[string]struct {
		ask     func(context.Context) error
		refused bool
	}{
		"list pods":       {func(ctx context.Context) error { _, err := account.CoreV1().Pods("").List(ctx, all); return err }, false},
		"list namespaces": {func(ctx context.Context) error { _, err := account.CoreV1().Namespaces().List(ctx, all); return err }, false},
		"list policies": {func(ctx context.Context) error {
			_, err := account.NetworkingV1().NetworkPolicies("").List(ctx, all)
			return err
		}, false},
		"list secrets": {func(ctx context.Context) error { _, err := account.CoreV1().Secrets("").List(ctx, all); return err }, true},
		"list nodes":   {func(ctx context.Context) error { _, err := account.CoreV1().Nodes().List(ctx, all); return err }, true},
		"delete a pod": {func(ctx context.Context) error {
			return account.CoreV1().Pods("default").Delete(ctx, "x", metav1.DeleteOptions{})
		}, true},
		"delete policies": {func(ctx context.Context) error {
			return account.NetworkingV1().NetworkPolicies("default").Delete(ctx, "x", metav1.DeleteOptions{})
		}, true},
	} {
		if err := tc.ask(ctx); apierrors.IsForbidden(err) != tc.refused || err != nil && !tc.refused {
			t.Errorf("%s: %v, want it refused: %t", name, err, tc.refused)
		}
	}
}
