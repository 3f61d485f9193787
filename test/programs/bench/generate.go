// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// size is a synthetic cluster: namespaces of about 100 pods, each of 20 applications with five replicas, which belong
// to 20 teams; and policies of the usual kinds in every namespace. 110 of the pods are on the node. Every object
// follows from its number.
type size struct{ pods, policies int }

const (
	podsPerNode     = 110
	podsPerApp      = 5
	appsInNamespace = 20
	teams           = 20

	appLabel = "app.kubernetes.io/name"
)

func sizes() []size {
	var list []size
	for _, pods := range []int{1000, 10_000, 100_000} {
		for _, policies := range []int{100, 1000, 10_000} {
			list = append(list, size{pods, policies})
		}
	}
	return list
}

func (z size) String() string { return fmt.Sprintf("%d pods, %d policies", z.pods, z.policies) }

func (z size) namespaces() int { return z.pods / (podsPerApp * appsInNamespace) }

func namespaceName(i int) string {
	switch i {
	case 0:
		return "kube-system"
	case 1:
		return "monitoring"
	}
	return fmt.Sprintf("team-%d-service-%d", i%teams, i)
}

func appName(i int) string { return fmt.Sprintf("app-%d", i%appsInNamespace) }

// namespace is the namespace of a number.
func (z size) namespace(i int) *corev1.Namespace {
	name := namespaceName(i)
	return &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, UID: types.UID(fmt.Sprintf("00000000-0000-4000-8000-%012d", i)), ResourceVersion: "1",
			Labels: map[string]string{
				corev1.LabelMetadataName: name,
				"team":                   fmt.Sprintf("team-%d", i%teams),
				"environment":            []string{"production", "staging", "development"}[i%3],
			},
		},
		Spec:   corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{corev1.FinalizerKubernetes}},
		Status: corev1.NamespaceStatus{Phase: corev1.NamespaceActive},
	}
}

// pod is the pod of a number, with the fields of a real cluster's pod: 4 to 5 kB.
func (z size) pod(i int) *corev1.Pod {
	app := appName(i / z.namespaces() / podsPerApp)
	name := fmt.Sprintf("%s-%08x-%05x", app, uint32(i/podsPerApp)*2654435761, i)
	created := metav1.NewTime(time.Date(2026, 1, 1, 0, 0, i%86400, 0, time.UTC))
	controller := true
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespaceName(i % z.namespaces()), Name: name, GenerateName: name[:len(name)-5],
			ResourceVersion: "1",
			UID:             types.UID(fmt.Sprintf("00000000-0000-4000-9000-%012d", i)), CreationTimestamp: created,
			Labels: map[string]string{
				appLabel: app, "app.kubernetes.io/part-of": "shop", "app.kubernetes.io/managed-by": "Helm",
				"pod-template-hash": name[len(app)+1 : len(app)+9],
			},
			Annotations: map[string]string{"checksum/config": fmt.Sprintf("%064x", i), "prometheus.io/scrape": "true",
				"prometheus.io/port": "9090"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "apps/v1", Kind: "ReplicaSet", Name: name[:len(app)+9],
				UID:        "00000000-0000-4000-a000-000000000000",
				Controller: &controller, BlockOwnerDeletion: &controller,
			}},
			ManagedFields: managedFields(created),
		},
		Spec: z.podSpec(i, app),
	}
	p.Status = podStatus(z.ip(i), created)
	return p
}

// ip is the address of a pod.
func (z size) ip(i int) netip.Addr {
	i += 256
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
}

// ips is ip as in a pod's status.
func (z size) ips(i int) []netip.Addr { return []netip.Addr{z.ip(i)} }

// local says whether a pod is on the node.
func (z size) local(i int) bool {
	stride := z.pods / podsPerNode
	return i%stride == 0 && i/stride < podsPerNode
}

// localPods are the numbers of the pods on the node.
func (z size) localPods() []int {
	var list []int
	for i := range z.pods {
		if z.local(i) {
			list = append(list, i)
		}
	}
	return list
}

func (z size) podSpec(i int, app string) corev1.PodSpec {
	node := fmt.Sprintf("node-%d", 1+i%1000)
	if z.local(i) {
		node = nodeName
	}
	env := make([]corev1.EnvVar, 0, 12)
	for n := range 12 {
		env = append(env, corev1.EnvVar{Name: fmt.Sprintf("SETTING_%d", n),
			Value: fmt.Sprintf("https://%s.internal.example/%d", app, n)})
	}
	quantities := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("100m"),
		corev1.ResourceMemory: resource.MustParse("128Mi")}
	probe := &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/healthz",
			Port: intstr.FromString("http"), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds: 10, TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
	}
	return corev1.PodSpec{
		NodeName: node, ServiceAccountName: app, RestartPolicy: corev1.RestartPolicyAlways,
		DNSPolicy:     corev1.DNSClusterFirst,
		SchedulerName: corev1.DefaultSchedulerName, SecurityContext: &corev1.PodSecurityContext{},
		Volumes: []corev1.Volume{
			{Name: "config",
				VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
					LocalObjectReference: corev1.LocalObjectReference{Name: app}}}},
			{Name: "kube-api-access-x7k2p",
				VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{}}},
		},
		Containers: []corev1.Container{{
			Name: app, Image: "registry.example/shop/" + app + ":v1.2.3", Env: env, LivenessProbe: probe,
			ReadinessProbe: probe,
			Ports: []corev1.ContainerPort{
				{Name: "http", ContainerPort: 8080, Protocol: corev1.ProtocolTCP},
				{Name: "metrics", ContainerPort: 9090, Protocol: corev1.ProtocolTCP},
			},
			Resources: corev1.ResourceRequirements{Requests: quantities, Limits: quantities},
			VolumeMounts: []corev1.VolumeMount{
				{Name: "config", MountPath: "/etc/" + app, ReadOnly: true},
				{Name: "kube-api-access-x7k2p", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount",
					ReadOnly: true},
			},
			TerminationMessagePath:   corev1.TerminationMessagePathDefault,
			TerminationMessagePolicy: corev1.TerminationMessageReadFile,
			ImagePullPolicy:          corev1.PullIfNotPresent,
		}},
	}
}

func podStatus(ip netip.Addr, at metav1.Time) corev1.PodStatus {
	var conditions []corev1.PodCondition
	for _, t := range []corev1.PodConditionType{corev1.PodReadyToStartContainers, corev1.PodInitialized,
		corev1.PodReady, corev1.ContainersReady, corev1.PodScheduled} {
		conditions = append(conditions, corev1.PodCondition{Type: t, Status: corev1.ConditionTrue,
			LastTransitionTime: at})
	}
	return corev1.PodStatus{
		Phase: corev1.PodRunning, Conditions: conditions, HostIP: "192.168.0.1",
		HostIPs: []corev1.HostIP{{IP: "192.168.0.1"}},
		PodIP:   ip.String(), PodIPs: []corev1.PodIP{{IP: ip.String()}}, StartTime: &at,
		QOSClass: corev1.PodQOSGuaranteed,
		ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", Ready: true, Image: "registry.example/shop/app:v1.2.3",
			ImageID: "registry.example/shop/app@sha256:" +
				"0000000000000000000000000000000000000000000000000000000000000000",
			ContainerID: "containerd://0000000000000000000000000000000000000000000000000000000000000000",
			State:       corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: at}},
		}},
	}
}

// managedFields is what server-side apply keeps about two managers of a pod: a large part of it.
func managedFields(at metav1.Time) []metav1.ManagedFieldsEntry {
	const fields = `{"f:metadata":{"f:annotations":{".":{},"f:checksum/config":{}},"f:generateName":{},` +
		`"f:labels":{".":{},` +
		`"f:app.kubernetes.io/name":{},"f:pod-template-hash":{}},"f:ownerReferences":{".":{},` +
		`"k:{\"uid\":\"00000000-0000-4000-a000-000000000000\"}":{}}},` +
		`"f:spec":{"f:containers":{"k:{\"name\":\"app\"}":{".":{},"f:env":{".":{},` +
		`"k:{\"name\":\"SETTING_0\"}":{".":{},"f:name":{},"f:value":{}},"k:{\"name\":\"SETTING_1\"}":{".":{},` +
		`"f:name":{},"f:value":{}}},"f:image":{},"f:imagePullPolicy":{},"f:livenessProbe":{".":{},` +
		`"f:failureThreshold":{},"f:httpGet":{".":{},"f:path":{},"f:port":{},"f:scheme":{}},` +
		`"f:periodSeconds":{}},"f:name":{},"f:ports":{".":{},"k:{\"containerPort\":8080,` +
		`\"protocol\":\"TCP\"}":{".":{},"f:containerPort":{},"f:name":{},"f:protocol":{}}},"f:resources":{}}},` +
		`"f:dnsPolicy":{},"f:restartPolicy":{},"f:schedulerName":{},"f:securityContext":{},` +
		`"f:terminationGracePeriodSeconds":{}}}`
	entry := metav1.ManagedFieldsEntry{
		Manager: "kube-controller-manager", Operation: metav1.ManagedFieldsOperationUpdate, APIVersion: "v1", Time: &at,
		FieldsType: "FieldsV1", FieldsV1: metav1.NewFieldsV1(fields),
	}
	kubelet := entry
	kubelet.Manager, kubelet.Subresource = "kubelet", "status"
	return []metav1.ManagedFieldsEntry{entry, kubelet}
}

// policy is the policy of a number: one of the kinds, in one of the namespaces.
func (z size) policy(i int) *networkingv1.NetworkPolicy {
	k, ns := i/z.namespaces(), i%z.namespaces()
	return &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespaceName(ns), Name: fmt.Sprintf("policy-%d", k), ResourceVersion: "1",
			UID: types.UID(fmt.Sprintf("00000000-0000-4000-b000-%012d", i)),
		},
		Spec: policySpec(k+ns, ns%teams), // so that few policies are of all kinds, too
	}
}
