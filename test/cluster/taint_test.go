// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package cluster

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTaint starts netpold on a tainted node, with the account and the argument of the taint component: the taint goes,
// others stay, and it does not come back when netpold restarts.
func TestTaint(t *testing.T) {
	a := newAgent(t)
	a.kill()
	a.must(a.cluster.Apply(t.Context(), "testdata/taint"))
	ds, err := a.admin.AppsV1().DaemonSets("kube-system").Get(t.Context(), "netpold", metav1.GetOptions{})
	a.must(err)
	a.flags = ds.Spec.Template.Spec.Containers[0].Args[1:]
	const key = "netpold.io/not-ready"
	if !slices.Equal(a.flags, []string{"--taint=" + key}) {
		t.Errorf("flags: %q", a.flags)
	}
	nodes := a.admin.CoreV1().Nodes()
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: agentNode}}
	for _, k := range []string{key, "gpu"} {
		node.Spec.Taints = append(node.Spec.Taints, corev1.Taint{Key: k, Effect: corev1.TaintEffectNoSchedule})
	}
	_, err = nodes.Create(t.Context(), node, metav1.CreateOptions{})
	a.must(err)
	has := func(key string) bool {
		node, err := nodes.Get(t.Context(), agentNode, metav1.GetOptions{})
		a.must(err)
		return slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool { return taint.Key == key })
	}
	if !has(key) {
		t.Fatal("the API server removed the taint")
	}
	a.start()
	a.until("the taint is gone", func() bool { return !has(key) })
	if !has("gpu") {
		t.Error("another taint is gone, too")
	}
	a.kill()
	a.start()
	if has(key) {
		t.Error("the taint is back")
	}
	config, err := a.cluster.ServiceAccount(t.Context(), "kube-system", "netpold")
	a.must(err)
	err = client(t, config).CoreV1().Nodes().Delete(t.Context(), agentNode, metav1.DeleteOptions{})
	if !apierrors.IsForbidden(err) {
		t.Errorf("delete a node: %v, want it forbidden", err)
	}
}
