// SPDX-License-Identifier: Apache-2.0

package connectivity_test

import (
	"fmt"
	"net/netip"
	"runtime"
	"strconv"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// BenchmarkConnections works out who may connect to whom among 10,000 pods under 1,000 policies, in several shapes:
//
//	go test -run='^$' -bench=Connections -benchtime=1x -benchmem ./translate/connectivity
//
// peak-MB is the most that the heap had, including the cluster itself.
func BenchmarkConnections(b *testing.B) {
	for _, shape := range []struct {
		name     string
		replicas int  // of a workload
		own      bool // each pod has a label of its own, and a named port of its own
	}{
		{"deployments", 10, false},
		{"statefulsets", 10, true},
		{"pods", 1, true},
	} {
		b.Run(shape.name, func(b *testing.B) {
			for b.Loop() {
				c := large(shape.replicas, shape.own)
				m := connectivity.New(c)
				all := m.Connections()
				var mem runtime.MemStats
				runtime.ReadMemStats(&mem)
				b.ReportMetric(float64(len(m.Workloads)), "workloads")
				b.ReportMetric(float64(len(all)), "connections")
				b.ReportMetric(float64(mem.HeapSys)/1e6, "peak-MB")
			}
		})
	}
}

// large returns 100 namespaces of 100 pods and 10 policies each.
func large(replicas int, own bool) *policy.Cluster {
	c := &policy.Cluster{Namespaces: make(map[string]map[string]string)}
	for n := range 100 {
		namespace := "team-" + strconv.Itoa(n)
		c.Namespaces[namespace] = map[string]string{"kubernetes.io/metadata.name": namespace,
			"tier": strconv.Itoa(n % 5)}
		for i := range 100 {
			app := "app-" + strconv.Itoa(i/replicas)
			p := policy.Pod{
				NamespacedName: types.NamespacedName{Namespace: namespace, Name: fmt.Sprintf("%s-%d", app, i)},
				Node:           "node-" + strconv.Itoa(i), Running: true,
				Labels: map[string]string{"app": app, "group": strconv.Itoa(i % 10)},
				Ports:  []policy.NamedPort{{Name: "http", Proto: policy.TCP, Number: 8080}},
				IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, byte(n), 0, byte(i)}),
					netip.AddrFrom16([16]byte{0: 0xfd, 13: byte(n), 15: byte(i)})},
			}
			if replicas > 1 {
				p.Owner = "StatefulSet/" + app
			}
			if own {
				p.Labels["statefulset.kubernetes.io/pod-name"] = p.Name
				p.Ports = append(p.Ports, policy.NamedPort{Name: "own", Proto: policy.TCP, Number: uint16(1 + i)})
			}
			c.Pods = append(c.Pods, p)
		}
		for i := range 10 {
			c.Policies = append(c.Policies, largePolicy(namespace, i))
		}
	}
	return c
}

// largePolicy returns the i-th policy of a namespace: the first denies all and allows DNS, the others allow one
// workload something.
func largePolicy(namespace string, i int) *networkingv1.NetworkPolicy {
	selector := func(key, value string) *metav1.LabelSelector {
		return &metav1.LabelSelector{MatchLabels: map[string]string{key: value}}
	}
	np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: namespace,
		Name: "policy-" + strconv.Itoa(i)}}
	if i == 0 {
		np.Spec.PolicyTypes = []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}
		np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{
			To:    []networkingv1.NetworkPolicyPeer{{NamespaceSelector: selector("tier", "0")}},
			Ports: []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromInt32(53))}},
		}}
		return np
	}
	np.Spec.PodSelector = *selector("app", "app-"+strconv.Itoa(i))
	peers := []networkingv1.NetworkPolicyPeer{
		{PodSelector: selector("app", "app-"+strconv.Itoa(i-1))},
		{PodSelector: selector("group", strconv.Itoa(i)), NamespaceSelector: selector("tier", strconv.Itoa(i%5))},
		{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("10.%d.0.0/16", i),
			Except: []string{fmt.Sprintf("10.%d.0.0/28", i)}}},
		{IPBlock: &networkingv1.IPBlock{CIDR: fmt.Sprintf("192.0.%s.0/24", namespace[len("team-"):])}},
	}
	ports := []networkingv1.NetworkPolicyPort{{Port: new(intstr.FromString("http"))},
		{Port: new(intstr.FromInt32(int32(1000 + i)))}}
	np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: peers, Ports: ports}}
	np.Spec.Egress = []networkingv1.NetworkPolicyEgressRule{{To: peers, Ports: ports}}
	return np
}
