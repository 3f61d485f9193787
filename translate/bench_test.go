// SPDX-License-Identifier: Apache-2.0

package translate_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/translate"
)

// scale is the size of a synthetic cluster: pods in identities of ten, spread over namespaces, 110 of them on the node.
type scale struct{ pods, policies int }

const (
	podsPerIdentity = 10
	podsPerNode     = 110
)

func (sc scale) namespaces() int { return max(1, sc.pods/1000) }

func (sc scale) pod(i int) translate.Pod {
	node := "other"
	if stride := max(1, sc.pods/podsPerNode); i%stride == 0 && i/stride < podsPerNode {
		node = "node"
	}
	return translate.Pod{
		NamespacedName: types.NamespacedName{
			Namespace: fmt.Sprintf("ns-%d", i%sc.namespaces()),
			Name:      fmt.Sprintf("app-%d-%d", i/podsPerIdentity, i),
		},
		Node:    node,
		Labels:  map[string]string{"app": fmt.Sprintf("app-%d", i/sc.namespaces()/podsPerIdentity), "tier": []string{"web", "db"}[i%2]},
		IPs:     []netip.Addr{netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})},
		Running: true,
	}
}

// policy lets in one application of the namespace, a whole namespace and a CIDR.
func (sc scale) policy(i int) *networkingv1.NetworkPolicy {
	app := func(n int) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{"app": fmt.Sprintf("app-%d", n)}}
	}
	port, tcp := intstr.FromInt32(int32(8000+i%100)), corev1.ProtocolTCP
	apps := max(1, sc.pods/sc.namespaces()/podsPerIdentity)
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("ns-%d", i%sc.namespaces()), Name: fmt.Sprintf("policy-%d", i)},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: *app(i / sc.namespaces() % apps),
			Ingress: []networkingv1.NetworkPolicyIngressRule{{
				From: []networkingv1.NetworkPolicyPeer{
					{PodSelector: app((i + 1) % apps)},
					{NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"team": fmt.Sprint(i % 10)}}},
					{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("192.0.%d.0/24", i%256)}},
				},
				Ports: []networkingv1.NetworkPolicyPort{{Protocol: &tcp, Port: &port}},
			}},
		},
	}
}

func (sc scale) fill(s *translate.State) {
	for i := range sc.namespaces() {
		s.SetNamespace(fmt.Sprintf("ns-%d", i), map[string]string{"team": fmt.Sprint(i % 10)})
	}
	for i := range sc.pods {
		s.SetPod(sc.pod(i))
	}
	for i := range sc.policies {
		_ = s.SetPolicy(sc.policy(i))
	}
}

var scales = []scale{{1_000, 100}, {100_000, 1_000}, {100_000, 10_000}}

func (sc scale) String() string { return fmt.Sprintf("pods=%d/policies=%d", sc.pods, sc.policies) }

// BenchmarkBuild is a start: all objects in, the whole table out.
func BenchmarkBuild(b *testing.B) {
	for _, sc := range scales {
		b.Run(sc.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				s := translate.New("node", translate.Options{})
				sc.fill(s)
				if s.Table().Pending() == nil {
					b.Fatal("no table")
				}
			}
		})
	}
}

// BenchmarkPodEvent is one pod of a known kind that comes or goes, up to the transaction.
func BenchmarkPodEvent(b *testing.B) {
	for _, sc := range scales {
		b.Run(sc.String(), func(b *testing.B) {
			s := translate.New("node", translate.Options{})
			sc.fill(s)
			s.Table().Pending()
			b.ReportMetric(float64(heap(s)), "heap-B")
			operations, i := 0, 0
			b.ReportAllocs()
			b.ResetTimer()
			for b.Loop() {
				p := sc.pod(i / 2 % sc.pods)
				if i%2 == 0 {
					s.DeletePod(p.NamespacedName)
				} else {
					s.SetPod(p)
				}
				i++
				if tx := s.Table().Pending(); tx != nil {
					operations += tx.Len()
				}
			}
			b.ReportMetric(float64(operations)/float64(i), "operations/op")
		})
	}
}

// heap is what s keeps in memory, with all else that lives.
func heap(s *translate.State) uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	runtime.KeepAlive(s)
	return m.HeapAlloc
}
