// SPDX-License-Identifier: Apache-2.0

// Package apiserver feeds a [watch.Sink] with the pods, namespaces and policies of an API server, and writes Events to
// it.
//
// It reads the wire format by hand where client-go takes more. A pod is trimmed before it is decoded, which takes 12 µs
// and 5.6 kB of garbage instead of 64 µs and 30 kB. A list is read one object at a time, as servers that cannot stream
// it send it whole. Objects go to the sink from the goroutine that decodes them: one more takes a tenth of the CPU time
// of an event.
package apiserver

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// Source feeds the pods, namespaces and policies of a cluster.
//
// An informer would hold each object, a kilobyte or more even when trimmed, beside what the sink makes of it. This is
// the half of one that is needed: a reflector for each kind lists, watches and backs off, and a [feed] keeps nothing.
type Source struct {
	Client *Client
	Pods   PodObserver // may be nil
	Node   string      // whose pod CIDRs the sink gets; "" is none
	Log    *slog.Logger

	discovery time.Duration // 0 means the constant
}

// PodObserver gets each pod with the fields that a [policy.Pod] leaves out.
type PodObserver interface {
	SetPod(*corev1.Pod)
	DeletePod(types.NamespacedName)
}

// Run feeds sink until ctx ends. While the API server is away, it tells the sink so and keeps trying.
func (s *Source) Run(ctx context.Context, sink watch.Sink) error {
	contact := &contact{sink: sink, waiting: make(map[string]struct{})}
	resources := s.resources()
	var reflectors sync.WaitGroup
	var incomplete atomic.Int32
	incomplete.Store(int32(len(resources)))
	synced := sync.OnceFunc(sink.Synced)
	complete := func() {
		if incomplete.Add(-1) == 0 {
			synced()
		}
	}
	begun := func() func() {
		incomplete.Add(1)
		return sync.OnceFunc(complete)
	}
	tiers := optional{source: s, sink: sink, contact: contact, complete: begun()}
	reflectors.Go(func() { s.followTiers(ctx, tiers, begun) })
	if s.Node != "" {
		answered := begun()
		reflectors.Go(func() { s.followNode(ctx, sink, answered) })
	}
	for _, r := range resources {
		f := newFeed(r, sink, s.Log)
		f.answered = func(err error) { contact.answered(r.name, err) }
		f.complete = sync.OnceFunc(complete)
		reflectors.Go(func() { f.run(ctx) })
	}
	reflectors.Wait()
	return nil
}

// resource is one kind of object: how to get it, and how to pass it to a sink.
type resource struct {
	reader
	name   string                                    // as kubectl calls it
	set    func(watch.Objects, runtime.Object) error // must not keep the object; an error names what was left out
	remove func(watch.Objects, types.NamespacedName)
	names  func(watch.Objects) iter.Seq[types.NamespacedName] // of all that the sink has
}

// reader is an [endpoint].
type reader interface {
	list(context.Context, metav1.ListOptions, func(runtime.Object) error) (metav1.ListMeta, error)
	watch(context.Context, metav1.ListOptions) (apiwatch.Decoder, error)
}

// unfinished selects the pods that are not over. One that is over no longer has an address; the server reports it as
// deleted.
const unfinished = "status.phase!=" + string(corev1.PodSucceeded) + ",status.phase!=" + string(corev1.PodFailed)

func (s *Source) resources() []resource {
	c := s.Client
	pods := endpoint{
		client: c.core, codecs: c.codecs, resource: "pods", kind: "Pod", selector: unfinished,
		empty: func() message { return new(corev1.Pod) },
	}
	namespaces := endpoint{
		client: c.core, codecs: c.codecs, resource: "namespaces", kind: "Namespace",
		empty: func() message { return new(corev1.Namespace) },
	}
	policies := endpoint{
		client: c.networking, codecs: c.codecs, resource: "networkpolicies", kind: "NetworkPolicy",
		empty: func() message { return new(networkingv1.NetworkPolicy) },
	}
	tellPod := func(objects watch.Objects, p *corev1.Pod) error {
		if s.Pods != nil {
			s.Pods.SetPod(p)
		}
		return setPod(objects, p)
	}
	removePod := func(objects watch.Objects, name types.NamespacedName) {
		if s.Pods != nil {
			s.Pods.DeletePod(name)
		}
		objects.DeletePod(name)
	}
	return []resource{
		{pods, pods.resource, setter(tellPod), removePod, watch.Objects.Pods},
		{namespaces, namespaces.resource, setter(setNamespace), unnamespaced(watch.Objects.DeleteNamespace),
			watch.Objects.Namespaces},
		{policies, policies.resource, setter(setPolicy), watch.Objects.DeletePolicy, watch.Objects.Policies},
	}
}

// setter adapts set, which takes one type, to any object.
func setter[T runtime.Object](set func(watch.Objects, T) error) func(watch.Objects, runtime.Object) error {
	return func(objects watch.Objects, obj runtime.Object) error {
		o, ok := obj.(T)
		if !ok {
			return fmt.Errorf("want %T, not %T", o, obj)
		}
		return set(objects, o)
	}
}

// unnamespaced adapts remove to objects without a namespace.
func unnamespaced(remove func(watch.Objects, string)) func(watch.Objects, types.NamespacedName) {
	return func(objects watch.Objects, name types.NamespacedName) { remove(objects, name.Name) }
}

func setPod(objects watch.Objects, p *corev1.Pod) error {
	pod, alive, err := policy.PodFrom(p)
	if !alive {
		objects.DeletePod(pod.NamespacedName)
		return nil
	}
	objects.SetPod(pod)
	return err
}

func setNamespace(objects watch.Objects, ns *corev1.Namespace) error {
	objects.SetNamespace(ns.Name, ns.Labels)
	objects.SetNamespaceMode(ns.Name, ns.Annotations)
	return nil
}

func setPolicy(objects watch.Objects, np *networkingv1.NetworkPolicy) error {
	objects.SetPolicy(&networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: np.Namespace, Name: np.Name, UID: np.UID, // events name the UID
			Annotations: policy.ModeOf(np.Annotations)},
		Spec: np.Spec,
	})
	return nil
}

// contact tells a sink whether the API server answers, which it does only if it answers for every resource.
type contact struct {
	sink watch.Sink

	mu      sync.Mutex
	waiting map[string]struct{} // the resources without an answer
}

// answered notes that the server answered for a resource, or why it did not.
func (c *contact) answered(resource string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := len(c.waiting)
	if err != nil {
		if request := (*url.Error)(nil); errors.As(err, &request) {
			err = request.Err // the rest is a long URL
		}
		c.waiting[resource] = struct{}{}
		c.sink.Away(fmt.Errorf("%s: %w", resource, err))
		return
	}
	delete(c.waiting, resource)
	if before > 0 && len(c.waiting) == 0 {
		c.sink.Away(nil)
	}
}
