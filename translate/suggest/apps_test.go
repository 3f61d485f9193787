// SPDX-License-Identifier: Apache-2.0

package suggest_test

import (
	"fmt"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/netpold/netpold/translate/suggest"
)

// TestDNSServer: the cluster's DNS is for all pods, including future ones.
func TestDNSServer(t *testing.T) {
	c := shop()
	r := suggest.Request{Cluster: c, Namespace: "kube-system"}
	for _, text := range []string{"shop/db-0 %s udp/53", "shop/web-5d9f-a %s udp/53",
		"monitoring/prometheus-0 %s tcp/9153"} {
		r.Flows = append(r.Flows, flow(c, fmt.Sprintf(text, "kube-system/coredns-6d4c-a")))
	}
	want := []string{
		"DNS of all pods, from 2 addresses: UDP 53, 2 connections" + seenLast,
		"{from:[{namespaceSelector:{}}],ports:[{port:53,protocol:TCP},{port:53,protocol:UDP}]}",
		"from monitoring/prometheus: TCP 9153, 1 connection" + seenLast,
		"{from:[{namespaceSelector:{matchLabels:{kubernetes.io/metadata.name:monitoring}}," +
			"podSelector:{matchLabels:{app:prometheus}}}],ports:[{port:9153,protocol:TCP}]}",
	}
	s := suggest.Suggest(r)
	if diff := cmp.Diff(want, rules(t, s, "coredns-ingress")); diff != "" || len(s.Lost) > 0 {
		t.Errorf("-want +got\n%s%v", diff, s.Lost)
	}
}

// TestPing: a comment says that allowing a ping opens all ports.
func TestPing(t *testing.T) {
	s := ask(shop(), suggest.Exact, "shop/web-5d9f-a shop/db-0 icmp")
	const want = "shop/db: an ingress rule allows every port, as what was seen has none (ICMP), and no rule can name it"
	if !slices.Contains(s.Notes, want) {
		t.Errorf("%q", s.Notes)
	}
}

// TestJobs: Jobs with generated names, and pods without a controller, get one policy, also for future ones.
func TestJobs(t *testing.T) {
	c := shop()
	for i := range 3 {
		n := strconv.Itoa(i)
		c.Pods = append(c.Pods, pod("shop/migrate-"+n+"-x", "Job/migrate-"+n, "app=migrate,job-name=migrate-"+n,
			"10.0.3."+n), pod("shop/ci-"+n, "", "app=ci", "10.0.4."+n))
	}
	s := ask(c, suggest.Exact, "shop/migrate-0-x shop/db-0 tcp/5432", "shop/migrate-2-x shop/db-0 tcp/5432",
		"shop/ci-1 192.0.2.1 tcp/443")
	want := []string{"from shop/migrate-0, shop/migrate-1, shop/migrate-2: TCP 5432, 2 connections" + seenLast,
		"{from:[{podSelector:{matchLabels:{app:migrate}}}],ports:[{port:5432,protocol:TCP}]}"}
	if diff := cmp.Diff(want, rules(t, s, "db-ingress")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	var names []string
	for _, p := range s.Policies {
		names = append(names, p.Name)
	}
	wantNames := []string{"ci-egress", "ci-ingress", "db-egress", "db-ingress", "migrate-egress", "migrate-ingress",
		"web-egress", "web-ingress"}
	if !cmp.Equal(wantNames, names) {
		t.Errorf("%q", names)
	}
}

// TestExporters: a service of all nodes is one rule, whatever else one of them serves.
func TestExporters(t *testing.T) {
	c := shop()
	s := ask(c, suggest.Exact, "shop/web-5d9f-a 192.0.2.1(node) tcp/9100", "shop/web-5d9f-a 192.0.2.2(node) tcp/9100",
		"shop/web-5d9f-b 192.0.2.1(node) tcp/6443")
	want := []string{
		"to 1 node address: TCP 6443, 1 connection" + seenLast,
		"{ports:[{port:6443,protocol:TCP}],to:[{ipBlock:{cidr:192.0.2.1/32}}]}",
		"to 2 node addresses: TCP 9100, 2 connections" + seenLast,
		"{ports:[{port:9100,protocol:TCP}],to:[{ipBlock:{cidr:192.0.2.1/32}},{ipBlock:{cidr:192.0.2.2/32}}]}",
	}
	if diff := cmp.Diff(want, rules(t, s, "web-egress")); diff != "" || len(s.Lost) > 0 {
		t.Errorf("-want +got\n%s%v", diff, s.Lost)
	}
}
