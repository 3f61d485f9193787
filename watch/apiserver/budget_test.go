// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"fmt"
	"log/slog"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/watch"
)

// TestUnneededUpdates: changes that policies do not need do not change the state, so no loop wakes.
func TestUnneededUpdates(t *testing.T) {
	state, log := translate.New("node", translate.Options{}), slog.New(slog.DiscardHandler)
	loop := watch.NewLoop(state, watch.LoopConfig{Log: log})
	resources := (&Source{Client: &Client{codecs: newCodecs()}}).resources()
	var feeds []*feed
	for _, r := range resources {
		feeds = append(feeds, newFeed(r, loop, log))
	}
	pod := deployed(t)
	pod.Spec.NodeName = "node"
	objects := []runtime.Object{
		pod,
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: pod.Namespace, Labels: map[string]string{"team": "a"}}},
		&networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: "deny"}},
	}
	unneeded := []func(obj runtime.Object, i int){
		func(obj runtime.Object, i int) {
			p := obj.(*corev1.Pod)
			p.Status.Conditions[0].LastProbeTime.Time = p.Status.Conditions[0].LastProbeTime.Add(1)
			p.Status.ContainerStatuses[0].RestartCount = int32(i)
			p.ResourceVersion, p.Annotations = fmt.Sprint(i), map[string]string{"touched": fmt.Sprint(i)}
		},
		func(obj runtime.Object, i int) {
			ns := obj.(*corev1.Namespace)
			ns.ResourceVersion, ns.Annotations = fmt.Sprint(i), map[string]string{"touched": fmt.Sprint(i)}
		},
		func(obj runtime.Object, i int) {
			np := obj.(*networkingv1.NetworkPolicy)
			np.ResourceVersion, np.Annotations = fmt.Sprint(i), map[string]string{"touched": fmt.Sprint(i)}
		},
	}
	update := func(kind int) {
		feeds[kind].take(nil, apiwatch.Modified, objects[kind])
	}
	for kind := range feeds {
		update(kind)
	}
	state.Complete().Take()
	for kind, touch := range unneeded {
		for i := range 3 {
			touch(objects[kind], i)
			update(kind)
			if state.Changed() {
				t.Errorf("%s: an update without anything new changes the state", feeds[kind].name)
				state.Complete().Take()
			}
		}
		// A pod's record is made before it is known to be the same.
		if allocations := testing.AllocsPerRun(100, func() { update(kind) }); allocations > 12 {
			t.Errorf("%s: %v allocations for an update without anything new", feeds[kind].name, allocations)
		} else {
			t.Logf("%s: %v allocations", feeds[kind].name, allocations)
		}
	}
	pod.Labels["app"] = "other"
	pod.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.99"}}
	if update(0); !state.Changed() {
		t.Error("a new address changes nothing")
	}
}
