// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// scale is the size of a synthetic cluster: pods in identities of ten, spread over namespaces, 110 of them on the node.
type scale struct {
	pods, policies int
	unlike         bool // each pod is of its own identity, as those of StatefulSets
}

const (
	podsPerIdentity = 10
	podsPerNode     = 110
	teams           = 10 // values of the namespaces' label that policies select by
)

func (sc scale) String() string {
	name := fmt.Sprintf("pods=%d/policies=%d", sc.pods, sc.policies)
	if sc.unlike {
		name += "/unlike"
	}
	return name
}

func (sc scale) namespaces() int { return max(1, sc.pods/1000) }

// apps is how many applications, with one identity each, a namespace has.
func (sc scale) apps() int { return max(1, sc.pods/sc.namespaces()/podsPerIdentity) }

func (sc scale) namespace(i int) string { return fmt.Sprintf("team-%03d", i%sc.namespaces()) }

// local is the number of the i-th pod of the node.
func (sc scale) local(i int) int { return i % podsPerNode * max(1, sc.pods/podsPerNode) }

// pod is a Deployment's pod. It shares no strings with others, as after decoding.
func (sc scale) pod(i int) policy.Pod {
	app := fmt.Sprintf("app-%d", i/sc.namespaces()/podsPerIdentity)
	hash := fmt.Sprintf("%08x", uint32(i/sc.namespaces()/podsPerIdentity*2654435761+i%sc.namespaces()))
	node := fmt.Sprintf("ip-10-128-%d-%d.eu-central-1.compute.internal", i/30%250, i/30/250)
	if stride := max(1, sc.pods/podsPerNode); i%stride == 0 && i/stride < podsPerNode {
		node = "node"
	}
	p := policy.Pod{
		NamespacedName: types.NamespacedName{Namespace: sc.namespace(i), Name: fmt.Sprintf("%s-%s-%05x", app, hash, i)},
		Node:           node,
		Labels: map[string]string{
			fmt.Sprint("app.kubernetes.io/", "name"):      app,
			fmt.Sprint("app.kubernetes.io/", "instance"):  app + "-prod",
			fmt.Sprint("app.kubernetes.io/", "component"): "server",
			fmt.Sprint("app.kubernetes.io/", "version"):   "v1.42.7",
			fmt.Sprint("pod-template", "-hash"):           hash,
		},
		IPs:     []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
		Ports:   []policy.NamedPort{{Name: "http", Proto: 6, Number: 8080}},
		Running: true,
		Created: time.Unix(int64(i), 0),
		Owner:   fmt.Sprintf("ReplicaSet/%s-%s", app, hash),
	}
	if sc.unlike {
		p.Labels[fmt.Sprint("statefulset.kubernetes.io/", "pod-name")] = p.Name + ""
	}
	return p
}

// policy allows one application of the namespace, the namespaces of a team and a CIDR.
func (sc scale) policy(i int) *networkingv1.NetworkPolicy {
	app := func(n int) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{fmt.Sprint("app.kubernetes.io/",
			"name"): fmt.Sprintf("app-%d", n%sc.apps())}}
	}
	port, tcp := intstr.FromInt32(int32(8000+i%100)), corev1.ProtocolTCP
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: sc.namespace(i), Name: fmt.Sprintf("policy-%d", i)},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: *app(i / sc.namespaces()),
			PolicyTypes: []networkingv1.PolicyType{"Ingress"},
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{
					{PodSelector: app(i/sc.namespaces() + 1)},
					{NamespaceSelector: &metav1.LabelSelector{
						MatchLabels: map[string]string{"team": fmt.Sprint(i % teams)},
					}},
					{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("192.0.%d.0/24", i%256)}},
				},
				Ports: []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &port}},
			}},
		},
	}
}

// setNamespace sets the i-th namespace, which belongs to a team.
func (sc scale) setNamespace(s *translate.State, i int, team string) {
	s.SetNamespace(sc.namespace(i), map[string]string{"team": team, "kubernetes.io/metadata.name": sc.namespace(i)})
}

// state is the state of a node of the cluster, with everything committed.
func (sc scale) state() *translate.State {
	s := translate.New("node", translate.Options{})
	sc.fill(s)
	s.Complete().Take()
	return s
}

func (sc scale) fill(s *translate.State) {
	for i := range sc.namespaces() {
		sc.setNamespace(s, i, fmt.Sprint(i%teams))
	}
	for i := range sc.pods {
		s.SetPod(sc.pod(i))
	}
	for i := range sc.policies {
		_ = s.SetPolicy(sc.policy(i))
	}
}

func scales() []scale {
	return []scale{{1_000, 100, false}, {100_000, 1_000, false}, {100_000, 10_000, false}}
}

// BenchmarkBuild is a start: all objects in, the whole table out.
func BenchmarkBuild(b *testing.B) {
	for _, sc := range scales() {
		b.Run(sc.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				sc.state()
			}
		})
	}
}

// BenchmarkSynced is what remains to be done when all objects are there: the table.
func BenchmarkSynced(b *testing.B) {
	for _, sc := range scales() {
		b.Run(sc.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				b.StopTimer()
				s := translate.New("node", translate.Options{})
				sc.fill(s)
				b.StartTimer()
				s.Complete().Take()
			}
		})
	}
}

// BenchmarkMemory is the memory of a node's state, per pod and per policy.
func BenchmarkMemory(b *testing.B) {
	for _, sc := range append(scales(), scale{100_000, 10_000, true}) {
		b.Run(sc.String(), func(b *testing.B) {
			var perPod, perPolicy, all float64
			for b.Loop() {
				perPod, perPolicy, all = sc.memory()
			}
			b.ReportMetric(perPod, "B/pod")
			b.ReportMetric(perPolicy, "B/policy")
			b.ReportMetric(all/(1<<20), "MiB")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// memory returns the bytes that a state keeps per pod and per policy, without the table, and for everything with the
// table.
func (sc scale) memory() (perPod, perPolicy, all float64) {
	empty := heap()
	s := translate.New("node", translate.Options{})
	scale{sc.pods, 0, sc.unlike}.fill(s)
	pods := heap()
	for i := range sc.policies {
		_ = s.SetPolicy(sc.policy(i))
	}
	policies := heap()
	s.Complete().Take()
	full := heap()
	runtime.KeepAlive(s)
	return (pods - empty) / float64(sc.pods), (policies - pods) / float64(sc.policies), full - empty
}

// heap returns the bytes of live objects.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers and weak pointers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// event is something that happens to a cluster and is then undone, so that a benchmark can repeat it.
type event struct {
	name   string
	do, un func(s *translate.State, i int)
}

// distinct is how many objects of a cluster its events are about.
const distinct = 50

func (sc scale) events() []event {
	var remote, local, relabelled [distinct]policy.Pod
	var policies [distinct]*networkingv1.NetworkPolicy
	for i := range distinct {
		remote[i], local[i], relabelled[i] = sc.pod(i*sc.pods/distinct+1), sc.pod(sc.local(i)), sc.pod(sc.local(i))
		relabelled[i].Labels["app.kubernetes.io/version"] = "v2.0.0"
		policies[i] = sc.policy(i * sc.policies / distinct)
	}
	set := func(pods [distinct]policy.Pod) func(*translate.State, int) {
		return func(s *translate.State, i int) { s.SetPod(pods[i%distinct]) }
	}
	remove := func(pods [distinct]policy.Pod) func(*translate.State, int) {
		return func(s *translate.State, i int) { s.DeletePod(pods[i%distinct].NamespacedName) }
	}
	setPolicy := func(s *translate.State, i int) { _ = s.SetPolicy(policies[i%distinct]) }
	removePolicy := func(s *translate.State, i int) {
		np := policies[i%distinct]
		s.DeletePolicy(types.NamespacedName{Namespace: np.Namespace, Name: np.Name})
	}
	return []event{
		{"remote", remove(remote), set(remote)},
		{"local", remove(local), set(local)},
		{"relabel", set(relabelled), set(local)},
		{"heartbeat", set(remote), set(local)},
		{"policy", removePolicy, setPolicy},
	}
}

// BenchmarkEvent is the cost of an event up to the transaction.
func BenchmarkEvent(b *testing.B) {
	for _, sc := range scales() {
		s := sc.state()
		for _, e := range sc.events() {
			b.Run(sc.String()+"/"+e.name, func(b *testing.B) {
				operations, i := 0, 0
				b.ReportAllocs()
				for b.Loop() {
					if i%2 == 0 {
						e.do(s, i/2)
					} else {
						e.un(s, i/2)
					}
					i++
					if tx := s.Complete().Take(); tx != nil {
						operations += tx.Len()
					}
				}
				if i%2 == 1 {
					e.un(s, i/2)
				}
				b.ReportMetric(float64(operations)/float64(i), "operations/op")
			})
		}
	}
}

// BenchmarkRelabel moves a namespace of 10,000 pods to another team and back: all of them change sets.
func BenchmarkRelabel(b *testing.B) {
	sc := scale{pods: 100_000, policies: 10_000}
	s := translate.New("node", translate.Options{})
	sc.fill(s)
	for i := range 9 { // the pods of nine namespaces more
		for n := range 1000 {
			p := sc.pod((n*sc.namespaces() + i + 1) % sc.pods)
			s.DeletePod(p.NamespacedName)
			p.Namespace = sc.namespace(0)
			s.SetPod(p)
		}
	}
	s.Complete().Take()
	operations, i := 0, 0
	b.ReportAllocs()
	for b.Loop() {
		i++
		sc.setNamespace(s, 0, fmt.Sprint(i%2))
		operations += s.Complete().Take().Len()
	}
	b.ReportMetric(float64(operations)/float64(i), "operations/op")
}
