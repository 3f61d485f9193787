// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/test/harness/train"
)

// ride is a train that passes an agent's rules, while the agent's API server is behind a proxy.
type ride struct {
	*agent
	train  *train.Train
	proxy  *proxy
	change int               // number of the last change
	extra  map[string]object // made by the last change
	canary int               // port of the last check
}

// object is a pod, a namespace or a policy.
type object interface {
	runtime.Object
	metav1.Object
}

// TestTrain sends packets while the API server stops, restarts, compacts and loses connections.
func TestTrain(t *testing.T) {
	r := newRide(t)
	r.train.Unharmed("200 changes", func() { r.changes(200) })
	r.train.Unharmed("the API server stops and starts", r.restartServer)
	r.train.Unharmed("5 times all connections are lost", r.loseConnections)
	r.train.Unharmed("changes that netpold misses, and etcd forgets", r.compact)
	r.train.Unharmed("netpold is killed and started without an API server", r.startAlone)
	r.forbidden()
}

// newRide starts netpold with the DaemonSet's options.
func newRide(t *testing.T) *ride {
	t.Helper()
	r := &ride{agent: newAgent(t, "--log-level=error")}
	r.kill()
	r.train = train.New(t, r.prober)
	r.proxy = newProxy(t, r.cluster)
	config, err := r.cluster.ServiceAccount(t.Context(), "kube-system", "netpold")
	r.must(err)
	config.Host = r.proxy.url()
	r.kubeconfig, err = r.cluster.Kubeconfig(config)
	r.must(err)
	_, err = r.replace(t.Context(), nil, train.World+"\n---\n"+train.Permission+"\n---\n"+canaryPod)
	r.must(err)
	r.start()
	r.idle = r.train.Step
	r.caughtUp()
	r.train.Settled(patience)
	return r
}

// meanwhile runs something slow while the train goes on.
func (r *ride) meanwhile(work func(context.Context) error) {
	r.Helper()
	done := make(chan error, 1)
	go func() { done <- work(r.Context()) }()
	for {
		select {
		case err := <-done:
			r.must(err)
			return
		default:
			r.idle()
		}
	}
}

// changes makes n changes that do not concern the train, and returns when netpold knows of them.
func (r *ride) changes(n int) {
	r.Helper()
	r.missed(n)
	r.caughtUp()
}

// missed makes n changes that do not concern the train.
func (r *ride) missed(n int) {
	r.Helper()
	r.meanwhile(func(ctx context.Context) (err error) {
		for i := 0; i < n && err == nil; i++ {
			r.change++
			r.extra, err = r.replace(ctx, r.extra, train.Bystanding(r.change))
		}
		return err
	})
}

// restartServer: without an API server the last state stays in force.
func (r *ride) restartServer() {
	r.forbidden()
	r.meanwhile(func(context.Context) error { return r.cluster.StopAPIServer() })
	r.inVain()
	r.startServer()
	r.changes(20)
}

// inVain lets netpold try in vain to reach the API server, behind a proxy that accepts all connections as load
// balancers do, and wants it to say so.
func (r *ride) inVain() {
	r.Helper()
	before := r.proxy.failures()
	r.until("netpold tries to reach the API server", func() bool { return r.proxy.failures() >= before+5 })
	r.until("netpold says that the API server is away", func() bool { return r.status().Source.AwaySince != nil })
	r.train.Steps(100)
}

// startServer is [agent.startServer] while the train goes on.
func (r *ride) startServer() {
	r.Helper()
	r.meanwhile(r.cluster.StartAPIServer)
	all, err := r.cluster.Forbidden()
	r.must(err)
	r.known = len(all)
}

// loseConnections: lost watches resume, or start again, and nothing is considered deleted meanwhile.
func (r *ride) loseConnections() {
	for range 5 {
		r.missed(5)
		if r.proxy.cut() == 0 {
			r.Error("netpold has no connection to lose")
		}
		r.changes(5)
	}
}

// compact: netpold lists everything again, and finds that much has changed.
func (r *ride) compact() {
	before := r.lists()
	r.proxy.block()
	r.missed(100)
	r.forbidden()
	r.meanwhile(func(ctx context.Context) error {
		if err := r.cluster.StopAPIServer(); err != nil {
			return err
		}
		return r.cluster.Compact(ctx)
	})
	r.startServer()
	r.proxy.open()
	r.until("netpold has listed pods, namespaces and policies again", func() bool { return r.lists() >= before+3 })
	r.changes(20)
}

// lists returns how often netpold has listed a kind.
func (r *ride) lists() int {
	r.Helper()
	all, err := r.cluster.Requests()
	r.must(err)
	return len(slices.DeleteFunc(all, func(q Request) bool {
		return !strings.HasSuffix(q.User, ":netpold") || q.Verb != "list" &&
			!strings.Contains(q.URI, "sendInitialEvents=true")
	}))
}

// startAlone: a netpold that knows nothing yet leaves its predecessor's rules in force.
func (r *ride) startAlone() {
	r.forbidden()
	r.kill()
	r.meanwhile(func(context.Context) error { return r.cluster.StopAPIServer() })
	r.launch()
	r.inVain()
	r.startServer()
	r.changes(20)
}

// canaryPod is isolated by the policy that [ride.caughtUp] changes.
const canaryPod = `
{apiVersion: v1, kind: Pod, metadata: {name: canary, namespace: shop, labels: {app: canary}}, spec: {nodeName: node-1},
 status: {phase: Running, podIPs: [{ip: 10.3.0.1}]}}
`

// caughtUp opens another port of the canary, and waits until packets pass and netpold counts the right number of pods.
func (r *ride) caughtUp() {
	r.Helper()
	r.canary++
	manifest := fmt.Sprintf(`
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: canary, namespace: shop},
 spec: {podSelector: {matchLabels: {app: canary}}, ingress: [{ports: [{port: %d}]}]}}`, r.canary)
	_, err := r.replace(r.Context(), nil, manifest)
	r.must(err)
	r.expect("the canary's next port", true, "10.3.0.9", "10.3.0.1", uint16(r.canary))
	r.expect("the canary's port after that", false, "10.3.0.9", "10.3.0.1", uint16(r.canary+1))
	pods, err := r.admin.CoreV1().Pods("").List(r.Context(), metav1.ListOptions{})
	r.must(err)
	r.until("all pods are known", func() bool { return r.status().Pods.Cluster == len(pods.Items) })
}

// replace creates or changes the objects of a manifest, removes earlier ones that are not in it, and returns them.
func (r *ride) replace(ctx context.Context, before map[string]object, manifest string) (map[string]object, error) {
	after := make(map[string]object)
	for text := range strings.SplitSeq(manifest, "\n---\n") {
		if strings.TrimSpace(text) == "" {
			continue
		}
		manifest, err := yaml.YAMLToJSON([]byte(text))
		if err != nil {
			return nil, err
		}
		decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(manifest, nil, nil)
		if err != nil {
			return nil, err
		}
		o, ok := decoded.(object)
		if !ok {
			return nil, fmt.Errorf("%T is not an object", decoded)
		}
		after[fmt.Sprintf("%T %s", o, o.GetName())] = o
		if err := r.set(ctx, o); err != nil {
			return nil, err
		}
	}
	for key, o := range before {
		if after[key] == nil {
			if err := r.remove(ctx, o); err != nil {
				return nil, err
			}
		}
	}
	return after, nil
}

// set creates an object, or changes an existing policy.
func (r *ride) set(ctx context.Context, o object) error {
	switch o := o.(type) {
	case *corev1.Namespace:
		_, err := r.admin.CoreV1().Namespaces().Create(ctx, o, metav1.CreateOptions{})
		return err
	case *corev1.Pod:
		o.Spec.Containers = []corev1.Container{{Name: "app", Image: "app"}}
		o.Status.PodIP = o.Status.PodIPs[0].IP
		return makePod(ctx, r.admin, o)
	case *networkingv1.NetworkPolicy:
		policies := r.admin.NetworkingV1().NetworkPolicies(o.Namespace)
		_, err := policies.Create(ctx, o, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			_, err = policies.Update(ctx, o, metav1.UpdateOptions{})
		}
		return err
	}
	return fmt.Errorf("cannot create a %T", o)
}

func (r *ride) remove(ctx context.Context, o object) error {
	switch o := o.(type) {
	case *corev1.Pod:
		return r.admin.CoreV1().Pods(o.Namespace).Delete(ctx, o.Name,
			metav1.DeleteOptions{GracePeriodSeconds: new(int64)})
	case *networkingv1.NetworkPolicy:
		return r.admin.NetworkingV1().NetworkPolicies(o.Namespace).Delete(ctx, o.Name, metav1.DeleteOptions{})
	}
	return fmt.Errorf("cannot remove a %T", o)
}
