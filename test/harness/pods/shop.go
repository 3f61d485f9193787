// SPDX-License-Identifier: Apache-2.0

package pods

import "slices"

// Shop is an application with three tiers, in the namespace shop, with everything that it talks to, and an intruder.
type Shop struct {
	Pods    []*Pod // those without a namespace are outside the cluster
	Talk    []Talk // what the application needs
	Intrude []Talk // what the intruder tries
}

// Talk is a pod that connects to a server.
type Talk struct {
	From *Pod
	To   Target
}

// NewShop returns the shop with addresses in 10.244.N.0/24.
func NewShop(n string) *Shop {
	pod := func(namespace, name, owner, labels, last string) *Pod {
		return &Pod{Namespace: namespace, Name: name, Owner: owner, Labels: labels, Address: "10.244." + n + "." + last}
	}
	deployed := func(namespace, name, labels, end, last string) *Pod {
		const hash = "6d4cf56db6"
		labels += ", pod-template-hash: " + hash
		return pod(namespace, name+"-"+hash+"-"+end, "ReplicaSet/"+name+"-"+hash, labels, last)
	}
	gateway := deployed("gateway", "nginx", "app: nginx", "zq8wd", "2")
	web1, web2 := deployed("shop", "web", "app: web", "4kx9t", "11"), deployed("shop", "web", "app: web", "lm2vp", "12")
	api := deployed("shop", "api", "app: api", "8sjcz", "13")
	db := pod("shop", "db-0", "StatefulSet/db", "app: db, apps.kubernetes.io/pod-index: \"0\"", "14")
	dns := deployed("kube-system", "coredns", "k8s-app: kube-dns", "n5rgh", "3")
	intruder := pod("lab", "notebook", "", "app: notebook", "21")
	bank := &Pod{Name: "bank", Address: "192.0.2.20", TCP: []int{443}}
	web1.TCP, web2.TCP, api.TCP, db.TCP = []int{8080}, []int{8080}, []int{8081}, []int{5432, 22}
	dns.UDP = []int{53}
	s := &Shop{Pods: []*Pod{gateway, web1, web2, api, db, dns, intruder, bank}}
	s.Talk = []Talk{
		{gateway, Target{web1, 8080}}, {gateway, Target{web2, 8080}},
		{web1, Target{api, 8081}}, {web2, Target{api, 8081}},
		{api, Target{db, 5432}}, {api, Target{bank, 443}},
		{web1, Target{dns, 53}}, {web2, Target{dns, 53}}, {api, Target{dns, 53}},
	}
	s.Intrude = []Talk{{intruder, Target{db, 5432}}, {intruder, Target{api, 8081}}, {web1, Target{db, 22}}}
	return s
}

// Reached says which connections are answered. Each pod tries all of its own at once.
func Reached(all []Talk) ([]bool, error) {
	reached := make([]bool, len(all))
	asked := make(map[*Pod]bool)
	for _, t := range all {
		if asked[t.From] {
			continue
		}
		asked[t.From] = true
		var which []int
		var targets []Target
		for i, other := range all {
			if other.From == t.From {
				which, targets = append(which, i), append(targets, other.To)
			}
		}
		got, err := t.From.Reach(targets...)
		if err != nil {
			return nil, err
		}
		for i, w := range which {
			reached[w] = got[i]
		}
	}
	return reached, nil
}

// Manifests returns the pods of the cluster, and their namespaces, as kubectl get prints them.
func Manifests(all []*Pod, node string) (pods string, namespaces []string) {
	for _, p := range all {
		if p.Namespace == "" {
			continue
		}
		pods += p.Manifest(node)
		if !slices.Contains(namespaces, p.Namespace) {
			namespaces = append(namespaces, p.Namespace)
		}
	}
	return pods, namespaces
}
