// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/netpold/netpold/test/harness/pods"
)

// stories returns what the demo tells.
func stories() []story { return []story{tiers(), sample(), relabel(), egress(), kill()} }

// pod is a pod by namespace/name, with its labels, its address and the TCP ports that it serves.
func pod(name, labels, address string, ports ...int) *pods.Pod {
	namespace, name, _ := strings.Cut(name, "/")
	return &pods.Pod{Namespace: namespace, Name: name, Labels: labels, Address: address, TCP: ports}
}

// tiers is the three-tier application: the presentation is public on 80, the middle and data tiers are not.
func tiers() story {
	return story{
		title: "1. Three tiers",
		about: "A shop of three tiers. Without a policy, everybody reaches everything:",
		pods: []*pods.Pod{
			pod("shop/web", "tier: presentation", "10.244.1.1", 80, 8080),
			pod("shop/api", "tier: middle", "10.244.1.2", 8080),
			pod("shop/db", "tier: data", "10.244.1.3", 6379, 22),
			pod("other/stranger", "app: stranger", "10.244.1.4"),
		},
		steps: []step{{
			say: "Three policies: presentation is reachable on 80, middle only from presentation, data only from " +
				"middle on 6379.",
			file: "policies.yaml",
			content: `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: presentation, namespace: shop}
spec:
  podSelector: {matchLabels: {tier: presentation}}
  ingress: [{ports: [{port: 80}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: middle, namespace: shop}
spec:
  podSelector: {matchLabels: {tier: middle}}
  ingress: [{from: [{podSelector: {matchLabels: {tier: presentation}}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: data, namespace: shop}
spec:
  podSelector: {matchLabels: {tier: data}}
  ingress: [{from: [{podSelector: {matchLabels: {tier: middle}}}], ports: [{port: 6379}]}]
`,
			reach: []string{"web api:8080", "api web:80", "api db:6379", "db web:80", "stranger web:80"},
		}},
	}
}

// sample is the policy of the Kubernetes documentation.
func sample() story {
	return story{
		title: "2. The documentation's sample",
		about: `The policy that the Kubernetes documentation explains: pods with role=db let in 172.17.0.0/16
except 172.17.1.0/24, the namespaces with project=myproject and the pods with role=frontend, on TCP 6379; they
may connect to 10.0.0.0/24 on TCP 5978.`,
		pods: []*pods.Pod{
			pod("default/db", "role: db", "10.244.2.1", 6379, 80),
			pod("default/frontend", "role: frontend", "10.244.2.2", 5978),
			pod("default/backend", "role: backend", "10.244.2.3"), pod("myproject/worker", "app: worker", "10.244.2.4"),
			pod("outside/client", "", "172.17.0.7"), pod("outside/excepted", "", "172.17.1.7"),
			pod("outside/peer", "", "10.0.0.9", 5978, 5979),
		},
		steps: []step{{
			say:  "The policy, what becomes of it, and what netpold reads back from the kernel about one connection:",
			file: "policy.yaml",
			content: `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: test-network-policy, namespace: default}
spec:
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
    ports: [{protocol: TCP, port: 5978}]
`,
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

// relabel is the workshop's story: nothing is restarted, only labels change.
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
			content: `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny-all, namespace: work}
spec: {podSelector: {}, policyTypes: [Ingress]}
`,
		}, {
			say:  "Allow clients with access=granted. The client does not have the label, so it is still blocked:",
			file: "allow.yaml",
			content: `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: allow-granted, namespace: work}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{podSelector: {matchLabels: {access: granted}}}], ports: [{port: 80}]}]
`,
		}, {
			say:     "Label the client. It works at once, nothing was restarted:",
			relabel: map[string]string{"client": "app: client, access: granted"},
			reach:   []string{"client server:80"},
		}, {
			say:  "Remove the permission: blocked again.",
			file: "allow.yaml",
		}, {
			say:   "Remove deny-all, too: no policy selects the server, everything is open.",
			file:  "deny-all.yaml",
			reach: []string{"client server:80"},
		}},
	}
}

// egress is the pod that may reach its name server and one server: who was blocked, and why.
func egress() story {
	return story{
		title: "4. Who was blocked, and why",
		about: "A pod, what it needs, and what it should not reach:",
		pods: []*pods.Pod{
			pod("app/job", "app: job", "10.244.4.1"), pod("kube-system/dns", "app: dns", "10.244.4.2", 53),
			pod("app/api", "app: api", "10.244.4.3", 443, 22), pod("outside/world", "app: world", "198.51.100.7", 443),
		},
		steps: []step{{
			say: "The pod may ask its name server, and reach the API on 443. netpold says who was blocked, and what " +
				"the nearest rule lacks:",
			file: "egress.yaml",
			content: `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: job, namespace: app}
spec:
  podSelector: {matchLabels: {app: job}}
  policyTypes: [Egress]
  egress:
  - to: [{namespaceSelector: {matchLabels: {project: kube-system}}}]
    ports: [{port: 53}, {protocol: UDP, port: 53}]
  - to: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 443}]
`,
			run: []string{"drops", "drops --top", "explain app/job 198.51.100.7:443"},
			reach: []string{
				"job dns:53", "job api:443", "dns api:443", "dns api:22", "dns world:443", "api dns:53",
				"api world:443",
				"world dns:53", "world api:443", "world api:22",
			},
		}},
	}
}

// kill ends netpold in the middle: the rules stay, and the next netpold takes them over.
func kill() story {
	return story{
		title: "5. netpold is killed, and comes back",
		about: "A server and two clients. Both reach the server:",
		pods: []*pods.Pod{
			pod("shop/db", "app: db", "10.244.5.1", 5432), pod("shop/api", "app: api", "10.244.5.2"),
			pod("shop/job", "app: job", "10.244.5.3"),
		},
		steps: []step{{
			say:  "Only pods with app=api:",
			file: "policy.yaml",
			content: `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: api}}}], ports: [{port: 5432}]}]
`,
			reach: []string{"api db:5432"},
		}, {
			say:   "kill -9. The rules are the kernel's, and stay:",
			agent: killed,
			reach: []string{"api db:5432"},
		}, {
			say:     "What changes now is not in force:",
			relabel: map[string]string{"job": "app: api", "api": "app: other"},
			agent:   away,
			reach:   []string{"api db:5432"},
		}, {
			say:   "Until netpold is back, which replaces the table at once, as a whole:",
			agent: started,
			reach: []string{"job db:5432"},
		}},
	}
}
