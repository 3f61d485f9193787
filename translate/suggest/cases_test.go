// SPDX-License-Identifier: Apache-2.0

package suggest_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/suggest"
	"github.com/netpold/netpold/watch/folder"
)

// pod is a pod of "shop/web-1", with its controller, labels as "app=web,tier=front" and an address.
func pod(name, owner, labels, address string) policy.Pod {
	ns, name, _ := strings.Cut(name, "/")
	p := policy.Pod{NamespacedName: types.NamespacedName{Namespace: ns, Name: name}, Owner: owner,
		Labels: make(map[string]string), IPs: []netip.Addr{netip.MustParseAddr(address)}, Running: true}
	for l := range strings.SplitSeq(labels, ",") {
		if k, v, ok := strings.Cut(l, "="); ok {
			p.Labels[k] = v
		}
	}
	return p
}

// flow is "from to protocol/port", seen once; names are those of pods of the cluster.
func flow(c *policy.Cluster, text string) flows.Flow {
	end := func(text string) flows.End {
		for _, p := range c.Pods {
			if p.String() == text {
				w := connectivity.WorkloadOf(&p)
				return flows.End{Address: p.IPs[0], Namespace: p.Namespace, Pod: text, Labels: p.Labels,
					Workload: w.Kind + "/" + w.Name}
			}
		}
		address, host := strings.CutSuffix(text, "(node)")
		return flows.End{Address: netip.MustParseAddr(address), Host: host}
	}
	words := strings.Fields(text)
	protocol, port, _ := strings.Cut(words[2], "/")
	number, _ := strconv.Atoi(port)
	at := time.Date(2026, 11, 22, 0, 1, 0, 0, time.UTC)
	return flows.Flow{From: end(words[0]), To: end(words[1]), Protocol: protocol, Port: uint16(number), Count: 1,
		First: at, Last: at, Verdict: flows.Allowed}
}

// shop is a cluster to change.
func shop() *policy.Cluster {
	return &policy.Cluster{
		Namespaces: map[string]map[string]string{"shop": nil, "kube-system": nil, "monitoring": nil},
		Pods: []policy.Pod{
			pod("shop/web-5d9f-a", "ReplicaSet/web-5d9f", "app=web,pod-template-hash=5d9f", "10.0.0.1"),
			pod("shop/web-5d9f-b", "ReplicaSet/web-5d9f", "app=web,pod-template-hash=5d9f", "10.0.0.2"),
			pod("shop/db-0", "StatefulSet/db", "app=db,apps.kubernetes.io/pod-index=0", "10.0.0.3"),
			pod("kube-system/coredns-6d4c-a", "ReplicaSet/coredns-6d4c", "k8s-app=kube-dns,pod-template-hash=6d4c",
				"10.0.1.1"),
			pod("monitoring/prometheus-0", "StatefulSet/prometheus", "app=prometheus", "10.0.2.1"),
		},
	}
}

// ask suggests policies for the shop.
func ask(c *policy.Cluster, external suggest.External, seen ...string) *suggest.Suggestion {
	r := suggest.Request{Cluster: c, Namespace: "shop", External: external}
	for _, text := range seen {
		r.Flows = append(r.Flows, flow(c, text))
	}
	return suggest.Suggest(r)
}

// rules returns the rules of a suggested policy, each as its comment and JSON.
func rules(t *testing.T, s *suggest.Suggestion, name string) []string {
	t.Helper()
	i := slices.IndexFunc(s.Policies, func(p suggest.Policy) bool { return p.Name == name })
	if i < 0 {
		return []string{"no policy " + name}
	}
	var all []string
	p := s.Policies[i]
	for n, comment := range p.Rules {
		var rule any
		if p.Direction == policy.Ingress {
			rule = p.Spec.Ingress[n]
		} else {
			rule = p.Spec.Egress[n]
		}
		text, err := yaml.Marshal(rule)
		if err != nil {
			t.Fatal(err)
		}
		flat, err := yaml.YAMLToJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.Join(comment, "; "), strings.ReplaceAll(string(flat), `"`, ""))
	}
	return all
}

const seenLast = ", last seen 2026-11-22 00:01 UTC"

// TestRules: the rule for what was seen.
func TestRules(t *testing.T) {
	const dns = "{ports:[{port:53,protocol:TCP},{port:53,protocol:UDP}]," +
		"to:[{namespaceSelector:{matchLabels:{kubernetes.io/metadata.name:kube-system}}," +
		"podSelector:{matchLabels:{k8s-app:kube-dns}}}]}"
	const exceptReserved = ",except:[10.0.0.0/8,100.64.0.0/10,169.254.0.0/16,172.16.0.0/12,192.168.0.0/16]"
	for _, row := range []struct {
		name     string
		external suggest.External
		seen     []string
		policy   string
		want     []string
	}{
		{"pods of the namespace, on several ports", suggest.Exact,
			[]string{"shop/web-5d9f-a shop/db-0 tcp/5432", "shop/web-5d9f-b shop/db-0 tcp/5432",
				"shop/web-5d9f-a shop/db-0 udp/53"}, "db-ingress",
			[]string{"from shop/web: UDP 53, 1 connection" + seenLast + "; from shop/web: TCP 5432, 2 connections" +
				seenLast, "{from:[{podSelector:{matchLabels:{app:web}}}]," +
				"ports:[{port:53,protocol:UDP},{port:5432,protocol:TCP}]}"}},
		{"another namespace", suggest.Exact,
			[]string{"monitoring/prometheus-0 shop/db-0 tcp/9187"}, "db-ingress",
			[]string{"from monitoring/prometheus: TCP 9187, 1 connection" + seenLast,
				"{from:[{namespaceSelector:{matchLabels:{kubernetes.io/metadata.name:monitoring}}," +
					"podSelector:{matchLabels:{app:prometheus}}}],ports:[{port:9187,protocol:TCP}]}"}},
		{"DNS, and another port of the same pods", suggest.Exact,
			[]string{"shop/db-0 kube-system/coredns-6d4c-a udp/53", "shop/db-0 kube-system/coredns-6d4c-a tcp/9153"},
			"db-egress",
			[]string{"DNS: UDP 53, 1 connection" + seenLast, dns,
				"to kube-system/coredns: TCP 9153, 1 connection" + seenLast,
				"{ports:[{port:9153,protocol:TCP}],to:[{namespaceSelector:{matchLabels:" +
					"{kubernetes.io/metadata.name:kube-system}},podSelector:{matchLabels:{k8s-app:kube-dns}}}]}"}},
		{"outside and nodes, exactly", suggest.Exact,
			[]string{"shop/db-0 192.0.2.9 tcp/443", "shop/db-0 192.0.2.1 tcp/443", "shop/db-0 192.0.2.1 tcp/443",
				"shop/db-0 198.51.100.7(node) tcp/443", "shop/db-0 192.0.2.7 tcp/80"}, "db-egress",
			[]string{"to 1 node address: TCP 443, 1 connection" + seenLast,
				"{ports:[{port:443,protocol:TCP}],to:[{ipBlock:{cidr:198.51.100.7/32}}]}",
				"to 2 outside addresses: TCP 443, 2 connections" + seenLast,
				"{ports:[{port:443,protocol:TCP}],to:[{ipBlock:{cidr:192.0.2.1/32}},{ipBlock:{cidr:192.0.2.9/32}}]}",
				"to 1 outside address: TCP 80, 1 connection" + seenLast,
				"{ports:[{port:80,protocol:TCP}],to:[{ipBlock:{cidr:192.0.2.7/32}}]}"}},
		{"outside, by networks", suggest.Subnet,
			[]string{"192.0.2.9 shop/db-0 tcp/443", "192.0.2.1 shop/db-0 tcp/443",
				"2001:db8:0:1::9 shop/db-0 sctp/443"},
			"db-ingress",
			[]string{"from 2 outside addresses: TCP 443, 2 connections" + seenLast,
				"{from:[{ipBlock:{cidr:192.0.2.0/24}}],ports:[{port:443,protocol:TCP}]}",
				"from 1 outside address: SCTP 443, 1 connection" + seenLast,
				"{from:[{ipBlock:{cidr:2001:db8:0:1::/64}}],ports:[{port:443,protocol:SCTP}]}"}},
		{"outside, any", suggest.Any, []string{"192.0.2.9 shop/db-0 tcp/443", "198.51.100.1 shop/db-0 tcp/443"},
			"db-ingress",
			[]string{"from 2 outside addresses: TCP 443, 2 connections" + seenLast,
				"{from:[{ipBlock:{cidr:0.0.0.0/0" + exceptReserved + "}}],ports:[{port:443,protocol:TCP}]}"}},
		{"what is not of the internet, any", suggest.Any, []string{"192.168.7.1 shop/db-0 tcp/443",
			"2001:db8::1 shop/db-0 tcp/443", "fd00::1 shop/db-0 tcp/443"}, "db-ingress",
			[]string{"from 1 outside address: TCP 443, 1 connection" + seenLast,
				"{from:[{ipBlock:{cidr:192.168.0.0/16}}],ports:[{port:443,protocol:TCP}]}",
				"from 2 outside addresses: TCP 443, 2 connections" + seenLast,
				"{from:[{ipBlock:{cidr:::/0,except:[fc00::/7,fe80::/10]}},{ipBlock:{cidr:fc00::/7}}]," +
					"ports:[{port:443,protocol:TCP}]}"}},
		{"ICMP", suggest.Exact, []string{"shop/web-5d9f-a shop/db-0 icmp", "shop/web-5d9f-a shop/db-0 tcp/80"},
			"db-ingress",
			[]string{"from shop/web: ICMP (which no rule can name: this one allows every port), 1 connection" +
				seenLast + "; from shop/web: TCP 80, 1 connection" + seenLast,
				"{from:[{podSelector:{matchLabels:{app:web}}}]}"}},
		{"addresses are counted by port", suggest.Any, []string{"shop/db-0 192.0.2.9 tcp/443",
			"shop/db-0 192.0.2.8 tcp/443", "shop/db-0 192.0.2.9 tcp/80"}, "db-egress",
			[]string{"to 1 outside address: TCP 80, 1 connection" + seenLast +
				"; to 2 outside addresses: TCP 443, 2 connections" + seenLast,
				"{ports:[{port:80,protocol:TCP},{port:443,protocol:TCP}],to:[{ipBlock:{cidr:0.0.0.0/0" +
					exceptReserved + "}}]}"}},
		{"a pod to itself, and what was not seen", suggest.Exact, []string{"shop/db-0 shop/db-0 tcp/80"}, "db-ingress",
			nil},
	} {
		s := ask(shop(), row.external, row.seen...)
		if diff := cmp.Diff(row.want, rules(t, s, row.policy)); diff != "" {
			t.Errorf("%s: -want +got\n%s", row.name, diff)
		}
		if len(s.Policies) != 4 || len(s.Lost) > 0 {
			t.Errorf("%s: %d policies, want 4; lost: %v", row.name, len(s.Policies), s.Lost)
		}
	}
}

// TestDenied: what was denied is not suggested.
func TestDenied(t *testing.T) {
	c := shop()
	f := flow(c, "shop/web-5d9f-a shop/db-0 tcp/22")
	f.Verdict = flows.Denied
	s := suggest.Suggest(suggest.Request{Cluster: c, Flows: []flows.Flow{f}, Namespace: "shop"})
	if got := rules(t, s, "db-ingress"); got != nil || len(s.Lost) > 0 {
		t.Errorf("%v %v", got, s.Lost)
	}
	if want := []string{"shop/db: no connection was seen, so its policies allow nothing",
		"shop/web: no connection was seen, so its policies allow nothing"}; !cmp.Equal(want, s.Notes) {
		t.Errorf("%q", s.Notes)
	}
}

// TestGone: pods that are gone since count as what they were; those that nothing is known of are named.
func TestGone(t *testing.T) {
	c := shop()
	c.Pods = append(c.Pods, pod("shop/backup-29074500-x", "Job/backup-29074500",
		"app=backup,job-name=backup-29074500,controller-uid=1", "10.0.0.9"))
	seen := []flows.Flow{flow(c, "shop/backup-29074500-x shop/db-0 tcp/5432")}
	old := flow(c, "shop/web-5d9f-a shop/db-0 tcp/5432")
	old.From.Pod, old.From.Labels, old.From.Address = "shop/web-4c8e-z", nil, netip.MustParseAddr("10.0.0.9")
	lost := flow(c, "shop/web-5d9f-a shop/db-0 tcp/5433")
	lost.From.Pod, lost.From.Labels, lost.From.Workload = "shop/cron-1", nil, "CronJob/cron"
	// The job is over, and another pod has its address.
	c.Pods[len(c.Pods)-1] = pod("shop/other", "", "app=other", "10.0.0.9")
	s := suggest.Suggest(suggest.Request{Cluster: c, Flows: append(seen, old, lost), Namespace: "shop"})
	want := []string{
		"from shop/backup: TCP 5432, 1 connection" + seenLast,
		"{from:[{podSelector:{matchLabels:{app:backup}}}],ports:[{port:5432,protocol:TCP}]}",
		"from shop/web: TCP 5432, 1 connection" + seenLast,
		"{from:[{podSelector:{matchLabels:{app:web}}}],ports:[{port:5432,protocol:TCP}]}",
	}
	if diff := cmp.Diff(want, rules(t, s, "db-ingress")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if len(s.Lost) != 1 || s.Lost[0].String() !=
		"shop/cron -> shop/db TCP 5433: the pod shop/cron-1 is gone, and nothing tells its labels" {
		t.Errorf("%v", s.Lost)
	}
	if got := rules(t, s, "backup-egress"); len(got) != 2 {
		t.Errorf("%v", got)
	}
}

// existing is a policy of the shop.
func existing(t *testing.T, name, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	np := &networkingv1.NetworkPolicy{}
	np.Namespace, np.Name = "shop", name
	if err := yaml.UnmarshalStrict([]byte(spec), &np.Spec); err != nil {
		t.Fatal(err)
	}
	return np
}

// TestExisting: what policies already allow is not suggested again, what they deny is not suggested against them, and
// no policy is overwritten.
func TestExisting(t *testing.T) {
	c := shop()
	c.Policies = []*networkingv1.NetworkPolicy{
		existing(t, "db-egress", `{podSelector: {matchLabels: {app: db}}, policyTypes: [Egress]}`),
		// one of the two pods, so the other needs a rule
		existing(t, "a", `{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 5432}],
			from: [{ipBlock: {cidr: 10.0.0.1/32}}, {podSelector: {matchLabels: {app: none}}}]}]}`),
		existing(t, "web-ingress", `{podSelector: {matchLabels: {app: other}}}`),
	}
	s := ask(c, suggest.Exact, "shop/web-5d9f-a shop/db-0 tcp/5432", "shop/web-5d9f-a shop/web-5d9f-b tcp/80",
		"shop/db-0 192.0.2.1 tcp/443")
	var names []string
	for _, p := range s.Policies {
		names = append(names, p.Name)
	}
	if want := []string{"db-ingress", "web-egress", "web-ingress-2"}; !cmp.Equal(want, names) {
		t.Errorf("%q, want %q", names, want)
	}
	if got := rules(t, s, "db-ingress"); len(got) != 2 {
		t.Errorf("%q", got)
	}
	want := "[shop/db -> 192.0.2.1 TCP 443: egress denied by shop/db-egress]"
	if got := fmt.Sprint(s.Outdated); got != want || len(s.Lost) > 0 {
		t.Error(got, s.Lost)
	}
	c.Policies[1] = existing(t, "a", `{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 5432}]}]}`)
	s = ask(c, suggest.Exact, "shop/web-5d9f-a shop/db-0 tcp/5432")
	if got := rules(t, s, "db-ingress"); got[0] != "no policy db-ingress" {
		t.Errorf("%q", got)
	}
	const nothing = "shop/db: policies already isolate it for ingress and allow all that was seen, so nothing is " +
		"suggested"
	if !slices.Contains(s.Notes, nothing) {
		t.Errorf("%q", s.Notes)
	}
}

// TestAlike: workloads that labels do not distinguish share a rule.
func TestAlike(t *testing.T) {
	c := shop()
	c.Pods = append(c.Pods, pod("shop/web-canary-7f8c-a", "ReplicaSet/web-canary-7f8c",
		"app=web,version=v2,pod-template-hash=7f8c", "10.0.0.7"))
	s := ask(c, suggest.Exact, "shop/web-5d9f-a shop/db-0 tcp/5432", "shop/web-canary-7f8c-a shop/db-0 tcp/5432")
	want := []string{"from shop/web, shop/web-canary: TCP 5432, 2 connections" + seenLast,
		"{from:[{podSelector:{matchLabels:{app:web}}}],ports:[{port:5432,protocol:TCP}]}"}
	if diff := cmp.Diff(want, rules(t, s, "db-ingress")); diff != "" || len(s.Lost) > 0 {
		t.Errorf("-want +got\n%s%v", diff, s.Lost)
	}
}

// TestAuditedAlone: a single policy that is only audited counts as enforced, and the operator is told.
func TestAuditedAlone(t *testing.T) {
	c := shop()
	np := existing(t, "db", `{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 5432}]}]}`)
	np.Annotations = map[string]string{policy.ModeAnnotation: policy.Audit}
	c.Policies = []*networkingv1.NetworkPolicy{np}
	s := ask(c, suggest.Exact, "shop/web-5d9f-a shop/db-0 tcp/5432")
	const want = "shop/db is only audited, and what it allows is not suggested again: enforce it first, or what is " +
		"suggested stops that"
	if !slices.Contains(s.Notes, want) {
		t.Errorf("%q", s.Notes)
	}
	c.Modes = map[string]string{"shop": policy.Audit}
	if s = ask(c, suggest.Exact, "shop/web-5d9f-a shop/db-0 tcp/5432"); slices.Contains(s.Notes, want) {
		t.Errorf("of a namespace in which all is audited: %q", s.Notes)
	}
}

// TestAudited: suggestions complement the policies that are only audited.
func TestAudited(t *testing.T) {
	c := shop()
	c.Modes = map[string]string{"shop": policy.Audit}
	c.Policies = []*networkingv1.NetworkPolicy{
		existing(t, "db", `{podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress],
			ingress: [{ports: [{port: 5432}]}]}`),
	}
	s := ask(c, suggest.Exact, "shop/web-5d9f-a shop/db-0 tcp/5432", "shop/web-5d9f-b shop/db-0 tcp/5433")
	want := []string{"from shop/web: TCP 5433, 1 connection" + seenLast,
		"{from:[{podSelector:{matchLabels:{app:web}}}],ports:[{port:5433,protocol:TCP}]}"}
	if diff := cmp.Diff(want, rules(t, s, "db-ingress")); diff != "" || len(s.Lost) > 0 {
		t.Errorf("-want +got\n%s%v", diff, s.Lost)
	}
	for port, want := range map[uint16]bool{5432: true, 5433: true, 5434: false} {
		f := policy.Flow{Src: c.Pods[1].IPs[0], Dst: c.Pods[2].IPs[0], Proto: policy.TCP, DstPort: port}
		if got := s.After.Explain(f).Ingress; got.Allowed != want || !got.Isolated {
			t.Errorf("%d: %+v", port, got)
		}
	}
}

// TestSelectors: the selector that distinguishes the first workload from the others.
func TestSelectors(t *testing.T) {
	for _, row := range []struct {
		name  string
		kind  string
		pods  []string // labels of the pods of the workload
		other []string // of other workloads of the namespace
		want  string
		note  string
	}{
		{"the conventional label", "StatefulSet", []string{"app=web,tier=front"}, []string{"app=db"},
			"{matchLabels:{app:web}}", ""},
		{"the recommended labels, all", "StatefulSet",
			[]string{"app.kubernetes.io/name=pg,app.kubernetes.io/instance=a,app=x,app.kubernetes.io/version=1"}, nil,
			"{matchLabels:{app.kubernetes.io/instance:a,app.kubernetes.io/name:pg}}", ""},
		{"one more where it is needed", "StatefulSet", []string{"app=shop,a=1,part=web,version=1"},
			[]string{"app=shop,a=1,part=db,version=2"}, "{matchLabels:{app:shop,part:web}}", ""},
		{"a version, which the next release changes", "StatefulSet", []string{"app=web,version=1"},
			[]string{"app=web,version=2"}, "{matchLabels:{app:web}}",
			"one selector matches all of them: their labels do not tell them apart"},
		{"what a controller sets, by kind", "CronJob", []string{"job-name=x-1,controller-uid=1", "job-name=x-2"},
			[]string{"", "app=db"}, "{matchExpressions:[{key:job-name,operator:Exists}]}", "no label identifies it"},
		{"what a controller did not set", "Pod", []string{""}, []string{"job-name=a", "job-name=b"},
			"{matchExpressions:[{key:job-name,operator:DoesNotExist}]}", "no label identifies it"},
		{"a label that no selector can have", "StatefulSet", []string{"app=/"}, []string{"b=1"},
			"{matchExpressions:[{key:b,operator:DoesNotExist}]}", "no label identifies it"},
		{"a label that the canary has", "StatefulSet", []string{"app=web"}, []string{"app=web,track=canary", "app=db"},
			"{matchExpressions:[{key:track,operator:DoesNotExist}],matchLabels:{app:web}}", ""},
		{"several values", "StatefulSet", []string{"shard=a", "shard=b"}, []string{"shard=c"},
			"{matchExpressions:[{key:shard,operator:In,values:[a,b]}]}", ""},
		{"a value or none", "StatefulSet", []string{"app=x,shard=a", "app=x"}, []string{"app=x,shard=c"},
			"{matchExpressions:[{key:shard,operator:NotIn,values:[c]}],matchLabels:{app:x}}", ""},
		{"volatile labels", "StatefulSet", []string{"statefulset.kubernetes.io/pod-name=x,controller-revision-hash=1",
			"statefulset.kubernetes.io/pod-name=y,controller-revision-hash=1"}, []string{"app=db"},
			"{matchExpressions:[{key:app,operator:DoesNotExist}]}", "no label identifies it"},
		{"a job", "Job", []string{"job-name=migrate,controller-uid=1"}, []string{"job-name=other"},
			"{matchLabels:{job-name:migrate}}", ""},
		{"a convention's label of nobody else comes first", "DaemonSet", []string{"b=1,k8s-app=proxy"}, nil,
			"{matchLabels:{k8s-app:proxy}}", ""},
		{"alike", "StatefulSet", []string{"app=web"}, []string{"app=web", "app=db"}, "{matchLabels:{app:web}}",
			"one selector matches all of them: their labels do not tell them apart"},
		{"no labels, nobody else", "StatefulSet", []string{""}, nil, "{}", "no label identifies it"},
	} {
		c := &policy.Cluster{}
		for i, l := range row.pods {
			c.Pods = append(c.Pods, pod(fmt.Sprintf("shop/x-%d", i), row.kind+"/x", l, fmt.Sprintf("10.0.0.%d", i)))
		}
		for i, l := range row.other {
			c.Pods = append(c.Pods, pod(fmt.Sprintf("shop/other-%d", i), "", l, fmt.Sprintf("10.0.1.%d", i)))
		}
		s := ask(c, suggest.Exact)
		i := slices.IndexFunc(s.Policies, func(p suggest.Policy) bool { return p.Workload.Name == "x" })
		text, err := yaml.Marshal(s.Policies[i].Spec.PodSelector)
		if err != nil {
			t.Fatal(err)
		}
		flat, err := yaml.YAMLToJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.ReplaceAll(string(flat), `"`, ""); got != row.want {
			t.Errorf("%s: %s, want %s", row.name, got, row.want)
		}
		var note string
		for _, n := range s.Notes {
			if after, ok := strings.CutPrefix(n, "shop/x: its "); ok {
				note = "its " + after
			} else if after, ok := strings.CutPrefix(n, "shop/x, shop/other-0: one "); ok {
				note = "one " + after
			} else if after, ok := strings.CutPrefix(n, "shop/x: no label "); ok {
				note = "no label " + after
			}
		}
		if row.note == "" && note != "" || !strings.HasPrefix(note, row.note) {
			t.Errorf("%s: %q, want %q", row.name, note, row.note)
		}
	}
}

// TestTiers: what a ClusterNetworkPolicy denies is named with its rule, and what it accepts stays allowed.
func TestTiers(t *testing.T) {
	read, errs := folder.Read("admin", strings.NewReader(`apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {matchLabels: {kubernetes.io/metadata.name: shop}}}
  egress:
  - {action: Deny, to: [{networks: [192.0.2.0/24]}]}
`))
	if len(errs) > 0 || len(read.ClusterPolicies) != 1 {
		t.Fatal(errs, read)
	}
	c := shop()
	c.ClusterPolicies = read.ClusterPolicies
	for ns := range c.Namespaces {
		c.Namespaces[ns] = map[string]string{"kubernetes.io/metadata.name": ns}
	}
	s := ask(c, suggest.Exact, "shop/db-0 192.0.2.1 tcp/443", "shop/db-0 198.51.100.1 tcp/443")
	got, want := fmt.Sprint(s.Outdated), "[shop/db -> 192.0.2.1 TCP 443: egress denied by Admin: guard rule 1]"
	if got != want || len(s.Lost) > 0 || len(rules(t, s, "db-egress")) != 2 {
		t.Errorf("%s, want %s; %v", got, want, s.Lost)
	}
}
