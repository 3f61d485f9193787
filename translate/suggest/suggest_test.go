// SPDX-License-Identifier: Apache-2.0

package suggest_test

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/suggest"
	"github.com/netpold/netpold/watch/folder"
)

// Flags to run other seeds, or a single one: go test ./translate/suggest -seed=7 -clusters=1
var (
	firstSeed = flag.Uint64("seed", 0, "the first seed of the random clusters")
	clusters  = flag.Uint64("clusters", 128, "how many random clusters TestRandom makes")
)

// world is a random cluster, and what was seen in it.
type world struct {
	cluster *policy.Cluster
	seen    []flows.Flow
}

func newWorld(seed uint64) *world {
	r := random.Source(seed)
	w := &world{cluster: random.Cluster(r, random.SizeOf(seed))}
	for i := range w.cluster.Pods {
		switch p := &w.cluster.Pods[i]; r.IntN(4) {
		case 0, 1:
			p.Owner = "StatefulSet/" + p.Labels["app"] + "x"
		case 3:
			if r.IntN(4) == 0 { // the API server takes any name of an owner
				p.Owner = "ReplicaSet/\n- Ev\u2028il: {}\x1b\r#" + p.Labels["app"]
			}
		case 2:
			p.Owner = fmt.Sprintf("Job/job-2907450%d", r.IntN(3))
			p.Labels["controller-uid"] = fmt.Sprint(i)
		}
	}
	for i := range 8 { // the API server sees to that
		name := fmt.Sprintf("ns-%d", i)
		if have := w.cluster.Namespaces[name]; have != nil {
			have["kubernetes.io/metadata.name"] = name
		} else {
			w.cluster.Namespaces[name] = map[string]string{"kubernetes.io/metadata.name": name}
		}
	}
	if seed%2 == 0 {
		random.NewGenerator(r, random.SizeOf(seed)).AddTiers(w.cluster)
	}
	source := random.NewFlows(r, w.cluster, nil)
	for i := range 60 {
		w.see(source.Next(), i)
	}
	return w
}

// see records a flow as `netpold flows` would.
func (w *world) see(f policy.Flow, n int) {
	end := func(a netip.Addr) flows.End {
		e := flows.End{Address: a}
		if p := w.cluster.Owner(a); p != nil {
			e.Namespace, e.Pod, e.Labels = p.Namespace, p.String(), p.Labels
			id := connectivity.WorkloadOf(p)
			e.Workload = id.Kind + "/" + id.Name
		}
		return e
	}
	at := time.Date(2026, 11, 22, 0, n, 0, 0, time.UTC)
	seen := flows.Flow{From: end(f.Src), To: end(f.Dst), Protocol: flows.ProtocolName(f.Proto), Port: f.DstPort,
		Count: 1, First: at, Last: at, Verdict: flows.Denied}
	if f.Proto == policy.ICMP || f.Proto == policy.ICMPv6 {
		seen.ICMPType = &f.ICMPType
	}
	if w.cluster.Explain(f).Allowed {
		seen.Verdict = flows.Allowed
	}
	if seen.Fault() == nil {
		w.seen = append(w.seen, seen)
	}
}

// TestRandom checks the promises of suggestions in random clusters, for every flow in the whole cluster: what was
// allowed stays allowed, the pods are isolated, selectors match what they should, and the text has the same policies.
func TestRandom(t *testing.T) {
	kept, lost, policies, exact, shared := 0, 0, 0, 0, 0
	for seed := *firstSeed; seed < *firstSeed+*clusters; seed++ {
		w := newWorld(seed)
		for ns := range random.SizeOf(seed).Namespaces {
			name := fmt.Sprintf("ns-%d", ns)
			s := suggest.Suggest(suggest.Request{Cluster: w.cluster, Flows: w.seen, Namespace: name,
				External: suggest.External(seed % 3)})
			t.Run(fmt.Sprint(seed, "/", name), func(t *testing.T) {
				k, l := w.checkFlows(t, s)
				kept, lost = kept+k, lost+l
				policies += len(s.Policies)
				w.checkIsolated(t, s, name)
				e, n := checkSelectors(t, s)
				exact, shared = exact+e, shared+n
				checkText(t, s)
			})
		}
	}
	t.Logf("%d flows stay allowed, %d cannot; %d policies, %d select their workload alone, %d cannot", kept, lost,
		policies, exact, shared)
	if *clusters >= 128 && (kept < 5000 || policies < 500 || exact < 400) {
		t.Error("the random clusters say little")
	}
}

// checkFlows asks about every flow in the cluster with the policies.
func (w *world) checkFlows(t *testing.T, s *suggest.Suggestion) (kept, lost int) {
	for _, f := range w.seen {
		if f.Verdict != flows.Allowed {
			continue
		}
		if s.After.Explain(f.Question()).Allowed {
			kept++
			continue
		}
		lost++
		named := slices.ContainsFunc(s.Lost, func(l suggest.Lost) bool { return l.Question() == f.Question() })
		mapped := f.From.Address.Is4In6() || f.To.Address.Is4In6() // no CIDR names such an address
		if !named || !mapped {
			t.Errorf("%s -> %s %s was allowed, and would not be (named: %t): %s", f.From, f.To, f.Service(), named,
				s.After.Describe(s.After.Explain(f.Question())))
		}
	}
	return kept, lost
}

// checkIsolated: the pods of the namespace are isolated in both directions, whatever was seen.
func (w *world) checkIsolated(t *testing.T, s *suggest.Suggestion, namespace string) {
	for _, p := range w.cluster.Pods {
		for _, a := range p.IPs {
			if p.Namespace != namespace || p.HostNetwork || w.cluster.Owner(a).String() != p.String() {
				continue
			}
			peer := netip.MustParseAddr("192.0.2.77")
			if a.Is6() {
				peer = netip.MustParseAddr("2001:db8::77")
			}
			out := s.After.Explain(policy.Flow{Src: a, Dst: peer, Proto: policy.TCP, DstPort: 9})
			in := s.After.Explain(policy.Flow{Src: peer, Dst: a, Proto: policy.TCP, DstPort: 9})
			if !out.Egress.Isolated || !in.Ingress.Isolated {
				t.Errorf("%s is isolated for egress: %t, ingress: %t", p, out.Egress.Isolated, in.Ingress.Isolated)
			}
		}
	}
}

// checkSelectors: a policy selects all pods of its workload, and others only if no conjunction of requirements
// distinguishes them, in which case it says so.
func checkSelectors(t *testing.T, s *suggest.Suggestion) (exact, shared int) {
	for _, p := range s.Policies {
		selector, err := metav1.LabelSelectorAsSelector(&p.Spec.PodSelector)
		if err != nil {
			t.Fatal(err)
		}
		var own, others []policy.Pod
		for _, pod := range s.After.Pods {
			if pod.Namespace == p.Namespace && !pod.HostNetwork {
				if w := connectivity.WorkloadOf(&pod); w == p.Workload || slices.Contains(p.Also, w) {
					own = append(own, pod)
				} else {
					others = append(others, pod)
				}
			}
		}
		for _, pod := range own {
			if !selector.Matches(labels.Set(pod.Labels)) {
				t.Errorf("%s does not select %s", p.Name, pod)
			}
		}
		alone := true
		for _, pod := range others {
			if !selector.Matches(labels.Set(pod.Labels)) {
				continue
			}
			alone = false
			for _, key := range []string{"app", "tier"} {
				if !slices.ContainsFunc(own, func(o policy.Pod) bool {
					value, has := o.Labels[key]
					other, hasToo := pod.Labels[key]
					return value == other && has == hasToo
				}) {
					t.Errorf("%s selects %s, which has another label %s", p.Name, pod, key)
				}
			}
			if !slices.ContainsFunc(s.Notes, func(n string) bool {
				return strings.HasPrefix(n, printable(p.Workload.String())) &&
					strings.Contains(n, ": its selector also matches pods of ")
			}) {
				t.Errorf("%s selects %s, and nothing says so: %q", p.Name, pod, s.Notes)
			}
		}
		if alone {
			exact++
		} else {
			shared++
		}
	}
	return exact, shared
}

// printable returns text as it is printed.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// checkText reads the written policies back.
func checkText(t *testing.T, s *suggest.Suggestion) {
	var text strings.Builder
	if err := s.Write(&text); err != nil {
		t.Fatal(err)
	}
	read, errs := folder.Read("text", strings.NewReader(text.String()))
	if len(errs)+len(read.Faults()) > 0 {
		t.Fatal(errs, read.Faults(), text.String())
	}
	byName := make(map[string]*networkingv1.NetworkPolicy)
	for _, np := range read.Policies {
		byName[np.Name] = np
	}
	for _, p := range s.Policies {
		if faults := validation.IsDNS1123Subdomain(p.Name); len(faults) > 0 {
			t.Errorf("%s: %s", p.Name, faults)
		}
		np := byName[p.Name]
		if np == nil || np.Namespace != p.Namespace || !equality.Semantic.DeepEqual(np.Spec, p.Spec) {
			t.Errorf("%s is written as %+v", p.Name, np)
		}
		if slices.ContainsFunc(s.Before.Policies, func(np *networkingv1.NetworkPolicy) bool {
			return np.Name == p.Name && np.Namespace == p.Namespace
		}) {
			t.Errorf("%s overwrites a policy", p.Name)
		}
	}
	for _, line := range slices.Concat(s.Notes, strings.Split(text.String(), "\n")) {
		if line != printable(line) {
			t.Errorf("%q", line)
		}
	}
	if len(byName) != len(s.Policies) {
		t.Errorf("%d policies are written, want %d", len(byName), len(s.Policies))
	}
}
