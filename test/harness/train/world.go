// SPDX-License-Identifier: Apache-2.0

package train

import "fmt"

// Node is the node of web and bystander; the other pods of World are elsewhere.
const Node = "node-1"

// World is the manifest of the train's pods.
const World = `
{apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: shop}}}
---
{apiVersion: v1, kind: Pod, metadata: {name: web, namespace: shop, labels: {app: web}},
 spec: {nodeName: node-1}, status: {phase: Running, podIPs: [{ip: 10.0.1.1}, {ip: "fd00:1::1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: bystander, namespace: shop, labels: {app: bystander}},
 spec: {nodeName: node-1}, status: {phase: Running, podIPs: [{ip: 10.0.1.2}, {ip: "fd00:1::2"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: client, namespace: shop, labels: {app: client}},
 spec: {nodeName: node-2}, status: {phase: Running, podIPs: [{ip: 10.0.2.1}, {ip: "fd00:2::1"}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other, namespace: shop, labels: {app: other}},
 spec: {nodeName: node-2}, status: {phase: Running, podIPs: [{ip: 10.0.2.2}, {ip: "fd00:2::2"}]}}
`

// Permission allows client to reach web on TCP 80 and UDP 53, and web to reach client on TCP 443, and nothing else for
// web.
const Permission = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from: [{podSelector: {matchLabels: {app: client}}}]
    ports: [{protocol: TCP, port: 80}, {protocol: UDP, port: 53}]
  egress:
  - to: [{namespaceSelector: {matchLabels: {team: shop}}, podSelector: {matchLabels: {app: client}}}]
    ports: [{protocol: TCP, port: 443}]
`

// Bystanding returns a manifest that changes the rules, each time differently, but no verdict on the train: web moves
// between isolations, chains come and go, and sets in which the train is looked up grow and shrink.
func Bystanding(i int) string {
	policy := func(name, app, from string) string {
		return fmt.Sprintf(`
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: %s, namespace: shop},
 spec: {podSelector: {matchLabels: {app: %s}}, policyTypes: [Ingress, Egress],
  ingress: [{from: [%s], ports: [{port: %d}]}]}}
`, name, app, from, 1000+i)
	}
	pod := func(app, node string, subnet int) string {
		return fmt.Sprintf(`
---
{apiVersion: v1, kind: Pod, metadata: {name: extra-%s-%d, namespace: shop, labels: {app: %s}},
 spec: {nodeName: %s},
 status: {phase: Running, podIPs: [{ip: 10.0.%d.%d}, {ip: "fd00:%d::%x"}]}}
`, app, i, app, node, subnet, 50+i%200, subnet, 50+i%200)
	}
	switch i % 5 {
	case 0:
		return policy("extra", "web", fmt.Sprintf("{ipBlock: {cidr: 192.0.2.%d/32}}", i%256))
	case 1:
		return policy("extra", "web", "{namespaceSelector: {matchLabels: {team: shop}}}")
	case 2:
		return policy("extra", "web", "{podSelector: {}}") + pod("client", "node-2", 2)
	case 3:
		return pod("web", "node-1", 1) + pod("client", "node-2", 2)
	default:
		return policy("other", "nobody", "{podSelector: {}}") + pod("client", "node-2", 2)
	}
}
