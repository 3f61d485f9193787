// SPDX-License-Identifier: Apache-2.0

package random

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

// Case returns a cluster and a flow as a golden case, to be kept with the others: the comment, cluster.yaml, and the
// flow with the policies' verdict.
func Case(comment string, e policy.Answer, c *policy.Cluster) string {
	verdict := map[bool]string{true: "allow", false: "deny "}[e.Allowed]
	if e.Allowed && (e.Egress.WouldDeny() || e.Ingress.WouldDeny()) {
		verdict = "audit"
	}
	comment = strings.ReplaceAll(comment, "\n", "\n# ")
	return fmt.Sprintf("# %s\n-- cluster.yaml --\n%s-- flows --\n%s %s\n", comment, Manifest(c), verdict,
		flowText(e.Flow))
}

// flowText formats a flow as the golden cases do.
func flowText(f policy.Flow) string {
	host := strings.TrimSuffix(net.JoinHostPort(f.Dst.String(), ""), ":")
	switch f.Proto {
	case nft.TCP, nft.UDP, nft.SCTP:
		return fmt.Sprintf("%s -> %s:%d/%s", f.Src, host, f.DstPort, nft.ProtocolName(f.Proto))
	case nft.ICMP, nft.ICMPv6:
		if (f.Proto == nft.ICMP) != f.Dst.Is4() { // the other family's: just a protocol number here
			break
		}
		return fmt.Sprintf("%s -> %s:icmp/%d", f.Src, host, f.ICMPType)
	}
	return fmt.Sprintf("%s -> %s:protocol/%d", f.Src, host, f.Proto)
}

// Manifest returns the objects of the cluster as YAML documents.
func Manifest(c *policy.Cluster) string {
	var objects []any
	for _, name := range slices.Sorted(maps.Keys(c.Namespaces)) {
		objects = append(objects, &corev1.Namespace{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Namespace"},
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: c.Namespaces[name], Annotations: modeOf(c, name)},
		})
	}
	for _, p := range c.Pods {
		objects = append(objects, Pod(p))
	}
	for _, np := range c.Policies {
		objects = append(objects, np)
	}
	for _, p := range c.ClusterPolicies {
		objects = append(objects, clusterPolicyText{p})
	}
	peers := make(map[string]policy.NodePeer)
	for _, n := range c.NodePeers {
		peers[n.Name] = n
	}
	for _, name := range slices.Sorted(maps.Keys(c.Nodes)) {
		objects = append(objects, node(name, c.Nodes[name], peers[name]))
		delete(peers, name)
	}
	for _, name := range slices.Sorted(maps.Keys(peers)) {
		objects = append(objects, node(name, nil, peers[name]))
	}
	documents := make([]string, len(objects))
	for i, o := range objects {
		text, err := yaml.Marshal(o)
		if err != nil {
			text = []byte(fmt.Sprintf("# %v\n", err)) // objects of these types always marshal
		}
		documents[i] = string(text)
	}
	return strings.Join(documents, "---\n")
}

// node returns a node of the API.
func node(name string, podCIDRs []netip.Prefix, peer policy.NodePeer) *corev1.Node {
	n := &corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"}}
	n.Name, n.Labels = name, peer.Labels
	for _, a := range peer.Addresses {
		n.Status.Addresses = append(n.Status.Addresses,
			corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a.String()})
	}
	for _, p := range podCIDRs {
		n.Spec.PodCIDRs = append(n.Spec.PodCIDRs, p.String())
	}
	return n
}

// Pod returns the API's pod from which policy.PodFrom makes p.
func Pod(p policy.Pod) *corev1.Pod {
	pod := &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: p.Namespace, Name: p.Name, Labels: p.Labels, CreationTimestamp: metav1.Time{Time: p.Created},
		},
		Spec:   corev1.PodSpec{NodeName: p.Node, HostNetwork: p.HostNetwork, Containers: containers(p.Ports)},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	if p.Running {
		pod.Status.Phase = corev1.PodRunning
	}
	if p.Terminating {
		pod.DeletionTimestamp = &metav1.Time{Time: p.Created.Add(time.Hour)}
	}
	for _, a := range p.IPs {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: a.String()})
		pod.Status.PodIP = p.IPs[0].String()
	}
	return pod
}

// containers returns one container for each port, because port names are unique within a container.
func containers(ports []policy.NamedPort) []corev1.Container {
	protocols := map[uint8]corev1.Protocol{nft.TCP: corev1.ProtocolTCP, nft.UDP: corev1.ProtocolUDP,
		nft.SCTP: corev1.ProtocolSCTP}
	all := []corev1.Container{{Name: "main"}}
	for i, port := range ports {
		all = append(all, corev1.Container{
			Name: "c" + strconv.Itoa(i),
			Ports: []corev1.ContainerPort{{Name: port.Name, Protocol: protocols[port.Proto],
				ContainerPort: int32(port.Number)}},
		})
	}
	return all
}
