// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/netpold/netpold/test/harness/pods"
)

// stories returns the stories of the demo, except the last one, [tellAdopting].
func stories() []story { return []story{tiers(), sample(), relabel(), egress(), kill()} }

// pod is a pod by namespace/name, with its labels, its address and the TCP ports that it serves.
func pod(name, labels, address string, ports ...int) *pods.Pod {
	namespace, name, _ := strings.Cut(name, "/")
	return &pods.Pod{Namespace: namespace, Name: name, Labels: labels, Address: address, TCP: ports}
}

// networkPolicy is the manifest of a policy by namespace/name, whose spec is YAML that is indented by two spaces.
func networkPolicy(name, spec string) string {
	namespace, name, _ := strings.Cut(name, "/")
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s, namespace: %s}\n"+
		"spec:%s\n", name, namespace, spec)
}

// tiers is the three-tier application: the presentation is public on 80, the middle and data tiers are not.
func tiers() story {
	return story{
		title: "1. Three tiers",
		about: "A shop with three tiers. Without policies, every pod reaches every other:",
		pods: []*pods.Pod{
			pod("shop/web", "tier: presentation", "10.244.1.1", 80, 8080),
			pod("shop/api", "tier: middle", "10.244.1.2", 8080),
			pod("shop/db", "tier: data", "10.244.1.3", 6379, 22),
			pod("other/stranger", "app: stranger", "10.244.1.4"),
		},
		steps: []step{{
			say: "Three policies: presentation is reachable on port 80, middle only from presentation, and data only " +
				"from middle on port 6379.",
			file: "policies.yaml",
			content: strings.Join([]string{
				networkPolicy("shop/presentation", `
  podSelector: {matchLabels: {tier: presentation}}
  ingress: [{ports: [{port: 80}]}]`),
				networkPolicy("shop/middle", `
  podSelector: {matchLabels: {tier: middle}}
  ingress: [{from: [{podSelector: {matchLabels: {tier: presentation}}}]}]`),
				networkPolicy("shop/data", `
  podSelector: {matchLabels: {tier: data}}
  ingress: [{from: [{podSelector: {matchLabels: {tier: middle}}}], ports: [{port: 6379}]}]`),
			}, "---\n"),
			reach: []string{"web api:8080", "api web:80", "api db:6379", "db web:80", "stranger web:80"},
		}},
	}
}

// sample is the sample policy of the Kubernetes documentation.
func sample() story {
	return story{
		title: "2. The documentation's sample",
		about: `The policy that the Kubernetes documentation explains: on TCP 6379, pods with role=db accept connections
from 172.17.0.0/16 except 172.17.1.0/24, from namespaces with project=myproject, and from pods with role=frontend;
they may connect to 10.0.0.0/24 on TCP 5978. So far it is not applied:`,
		pods: []*pods.Pod{
			pod("default/db", "role: db", "10.244.2.1", 6379, 80),
			pod("default/frontend", "role: frontend", "10.244.2.2", 5978),
			pod("default/backend", "role: backend", "10.244.2.3"), pod("myproject/worker", "app: worker", "10.244.2.4"),
			pod("outside/client", "", "172.17.0.7"), pod("outside/excepted", "", "172.17.1.7"),
			pod("outside/peer", "", "10.0.0.9", 5978, 5979),
		},
		steps: []step{{
			say:  "The policy; the table that netpold makes of it; and one connection, checked against the kernel:",
			file: "policy.yaml",
			content: networkPolicy("default/test-network-policy", `
  podSelector: {matchLabels: {role: db}}
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
    - namespaceSelector: {matchLabels: {project: myproject}}
    - podSelector: {matchLabels: {role: frontend}}
    ports: [{protocol: TCP, port: 6379}]
  egress:
  - to: [{ipBlock: {cidr: 10.0.0.0/24}}]
    ports: [{protocol: TCP, port: 5978}]`),
			run: []string{"render -f DIR --node " + nodeName, "explain --verify default/frontend default/db:6379"},
			reach: []string{
				"frontend db:6379", "worker db:6379", "client db:6379", "db peer:5978",
				"frontend peer:5978", "frontend peer:5979", "backend peer:5978", "backend peer:5979",
				"worker peer:5978",
				"worker peer:5979", "client peer:5978", "client peer:5979", "excepted peer:5978", "excepted peer:5979",
				"backend frontend:5978", "worker frontend:5978", "client frontend:5978", "excepted frontend:5978",
				"peer frontend:5978",
			},
		}},
	}
}

// relabel denies, allows and relabels: nothing is restarted, only labels change.
func relabel() story {
	return story{
		title: "3. Deny all, allow by label, relabel",
		about: "A server and a client. The client reaches the server:",
		pods: []*pods.Pod{
			pod("work/server", "app: server", "10.244.3.1", 80), pod("work/client", "app: client", "10.244.3.2"),
		},
		steps: []step{{
			say:  "Deny all ingress in the namespace:",
			file: "deny-all.yaml",
			content: networkPolicy("work/deny-all", `
  podSelector: {}
  policyTypes: [Ingress]`),
		}, {
			say:  "Allow clients with access=granted. Our client does not have that label, so it is still blocked:",
			file: "allow.yaml",
			content: networkPolicy("work/allow-granted", `
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {access: granted}}}], ports: [{port: 80}]}]`),
		}, {
			say:     "Label the client. It gets through at once; nothing was restarted:",
			relabel: map[string]string{"client": "app: client, access: granted"},
			reach:   []string{"client server:80"},
		}, {
			say:  "Remove allow-granted: the client is blocked again.",
			file: "allow.yaml",
		}, {
			say:   "Remove deny-all, too: no policy selects the server any more, so it is open to everybody.",
			file:  "deny-all.yaml",
			reach: []string{"client server:80"},
		}},
	}
}

// egress is a pod that may reach its name server and one other server.
func egress() story {
	return story{
		title: "4. Who was blocked, and why",
		about: "A pod, what it needs, and what it should not reach:",
		pods: []*pods.Pod{
			pod("app/job", "app: job", "10.244.4.1"), pod("kube-system/dns", "app: dns", "10.244.4.2", 53),
			pod("app/api", "app: api", "10.244.4.3", 443, 22), pod("outside/world", "app: world", "198.51.100.7", 443),
		},
		steps: []step{{
			say: "The pod may query its name server and reach the API on port 443. netpold says who was blocked, and " +
				"how the nearest rule falls short:",
			file: "egress.yaml",
			content: networkPolicy("app/job", `
  podSelector: {matchLabels: {app: job}}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {matchLabels: {project: kube-system}}}]
    ports: [{port: 53}, {protocol: UDP, port: 53}]
  - to: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 443}]`),
			run: []string{"drops", "drops --top", "explain app/job 198.51.100.7:443"},
			reach: []string{
				"job dns:53", "job api:443", "dns api:443", "dns api:22", "dns world:443", "api dns:53",
				"api world:443",
				"world dns:53", "world api:443", "world api:22",
			},
		}},
	}
}

// kill kills netpold: the rules stay, and the next netpold takes them over.
func kill() story {
	return story{
		title: "5. netpold is killed, and comes back",
		about: "A server and two clients. Both reach the server:",
		pods: []*pods.Pod{
			pod("shop/db", "app: db", "10.244.5.1", 5432), pod("shop/api", "app: api", "10.244.5.2"),
			pod("shop/job", "app: job", "10.244.5.3"),
		},
		steps: []step{{
			say:  "Allow only pods with app=api:",
			file: "policy.yaml",
			content: networkPolicy("shop/db", `
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]`),
			reach: []string{"api db:5432"},
		}, {
			say:   "kill -9 netpold. The rules are in the kernel, and stay in force:",
			agent: killed,
			reach: []string{"api db:5432"},
		}, {
			say:     "Changes made while it is down do not take effect yet:",
			relabel: map[string]string{"job": "app: api", "api": "app: other"},
			agent:   away,
			reach:   []string{"api db:5432"},
		}, {
			say:   "netpold is back, and replaces the whole table in one step:",
			agent: started,
			reach: []string{"job db:5432"},
		}},
	}
}
