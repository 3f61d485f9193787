// SPDX-License-Identifier: Apache-2.0

// Package suggest makes NetworkPolicies from observed connections: for each workload of a namespace one policy for
// ingress and one for egress, which allow exactly these connections.
//
//	flows ──► ends ──► needs ──────────────► rules ──► policies ──► replay
//	          pods of  peer and port of a    one for   one for a    every flow, by the oracle
//	          workloads workload, less what  a peer    workload
//	                    policies allow       and ports and direction
//
// Nothing is taken for granted: [Suggest] asks the oracle, [policy.Cluster.Explain], about each connection under the
// policies that it made, and names those that they would block.
//
// The package is pure: no files, no clock, no log.
package suggest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/policy"
)

// Request is what to suggest policies for.
type Request struct {
	Cluster   *policy.Cluster // its pods, namespaces and policies; not modified
	Flows     []flows.Flow    // of any namespace; denied ones do not count
	Namespace string
	External  External
}

// External is the width of an ipBlock for an observed address.
type External uint8

// The widths.
const (
	Exact  External = iota // the address
	Subnet                 // its /24, or /64 for IPv6
	Any                    // every address of the family
)

// Suggestion is the result of [Suggest].
type Suggestion struct {
	Policies []Policy // sorted by workload, egress first

	// Seen is how many connections the policies are made from, seen from First to Last.
	Seen        uint64
	First, Last time.Time

	// Lost are connections that were allowed when seen, and would not be under the policies. Outdated are those that
	// the cluster's policies deny by now.
	Lost, Outdated []Lost

	// Notes are what an operator should know, in sentences.
	Notes []string

	// Before is the given cluster, and After the same with the policies, and with all of the namespace's policies
	// enforced. In both, each namespace has the label that the API server sets.
	Before, After *policy.Cluster
}

// Policy is a suggested policy with its comments.
type Policy struct {
	*networkingv1.NetworkPolicy
	Workload  connectivity.Workload
	Also      []connectivity.Workload // those with the same labels; sorted
	Direction policy.Direction
	Rules     [][]string // the lines of each rule's comment
}

// Lost is a connection that policies block.
type Lost struct {
	flows.Flow
	Reason string
}

// String returns the connection for an operator.
func (l Lost) String() string {
	return plain(fmt.Sprintf("%s -> %s %s: %s", l.From, l.To, l.Service(), l.Reason))
}

// suggester makes a suggestion.
type suggester struct {
	Request
	Suggestion
	*roster

	now      *asked // the answers of the cluster's policies
	needs    map[subject]map[wish]*need
	met      map[subject]map[wish]bool // by the cluster's policies
	isolates map[subject]bool          // likewise
	sorted   map[family][]end
	seen     []observed // what was allowed and must stay so
	written  map[subject]written
}

// subject is what a policy is for.
type subject struct {
	workload  *workload
	direction policy.Direction
}

// observed is an allowed connection, with what its ends are now.
type observed struct {
	flows.Flow
	from, to end
}

// of returns the end that policies of a direction select, and the peer.
func (o observed) of(d policy.Direction) (own, peer end) {
	if d == policy.Egress {
		return o.from, o.to
	}
	return o.to, o.from
}

// Suggest makes policies for a namespace.
func Suggest(r Request) *Suggestion {
	s := &suggester{Request: r, roster: newRoster(r.Cluster), needs: make(map[subject]map[wish]*need),
		met: make(map[subject]map[wish]bool), isolates: make(map[subject]bool), sorted: make(map[family][]end),
		written: make(map[subject]written)}
	s.observe()
	s.Before = s.labelled()
	s.now = newAsked(s.Before)
	s.seen = slices.DeleteFunc(s.seen, s.outdated)
	for _, o := range s.seen {
		for _, d := range policy.Directions() {
			s.note(o, d)
		}
	}
	s.count()
	s.suggest()
	s.After = s.enforcing()
	for _, p := range s.Policies {
		s.After.Policies = append(s.After.Policies, p.NetworkPolicy)
	}
	s.replay()
	return &s.Suggestion
}

// observe finds the ends of the namespace's flows.
func (s *suggester) observe() {
	for _, f := range flows.Merge(s.Flows) {
		if f.Verdict != flows.Allowed || f.From.Address == f.To.Address || isDiscovery(f) {
			continue
		}
		from, why := s.end(f.From)
		to, whyNot := s.end(f.To)
		if why = cmp.Or(why, whyNot); why != "" {
			if f.From.Namespace == s.Namespace || f.To.Namespace == s.Namespace {
				s.Lost = append(s.Lost, Lost{f, why})
			}
			continue
		}
		if from.in(s.Namespace) || to.in(s.Namespace) {
			s.seen = append(s.seen, observed{f, from, to})
		}
	}
	s.join()
	for i := range s.seen {
		for _, e := range [...]*end{&s.seen[i].from, &s.seen[i].to} {
			if w := s.joined[e.workload]; w != nil {
				e.workload = w
			}
		}
	}
}

// count sums up what was seen.
func (s *suggester) count() {
	for _, o := range s.seen {
		s.Seen += o.Count
		if s.First.IsZero() || o.First.Before(s.First) {
			s.First = o.First
		}
		if o.Last.After(s.Last) {
			s.Last = o.Last
		}
	}
}

// SeenText says how many connections were seen, and when.
func (s *Suggestion) SeenText() string {
	when := "at " + stamp(s.Last)
	if first := stamp(s.First); first != stamp(s.Last) {
		when = fmt.Sprintf("between %s and %s", first, stamp(s.Last))
	}
	return fmt.Sprintf("%s seen %s", plural(s.Seen, "connection", "s"), when)
}

// isDiscovery says whether a flow is IPv6 neighbour discovery, which no policy can stop.
func isDiscovery(f flows.Flow) bool {
	q := f.Question()
	return q.Src.Is6() && q.Proto == policy.ICMPv6 && q.ICMPType >= 133 && q.ICMPType <= 137
}

// labelled returns the cluster with the label that the API server sets on each namespace.
func (s *suggester) labelled() *policy.Cluster {
	c := *s.Cluster
	c.Namespaces = make(map[string]map[string]string)
	for name, labels := range s.Cluster.Namespaces {
		c.Namespaces[name] = maps.Clone(labels)
	}
	for w := range s.workloads {
		if c.Namespaces[w.Namespace] == nil {
			c.Namespaces[w.Namespace] = make(map[string]string)
		}
	}
	for name, labels := range c.Namespaces {
		if labels == nil {
			labels = make(map[string]string)
		}
		labels[corev1.LabelMetadataName] = name
		c.Namespaces[name] = labels
	}
	return &c
}

// enforcing returns the cluster with the namespace's audited policies enforced.
func (s *suggester) enforcing() *policy.Cluster {
	c := *s.Before
	c.Modes = maps.Clone(c.Modes)
	delete(c.Modes, s.Namespace)
	c.Policies = nil
	for _, np := range s.Before.Policies {
		if np.Namespace == s.Namespace && s.Before.Audited(np) {
			np = np.DeepCopy()
			delete(np.Annotations, policy.ModeAnnotation)
		}
		c.Policies = append(c.Policies, np)
	}
	return &c
}

// suggest makes the policies.
func (s *suggester) suggest() {
	names := s.names()
	for _, w := range s.in(s.Namespace) {
		selector := s.selector(w)
		seen := false
		for _, d := range policy.Directions() {
			needs := s.needs[subject{w, d}]
			seen = seen || len(needs) > 0
			if s.isolated(w, d) && len(needs) == 0 {
				s.Notes = append(s.Notes, fmt.Sprintf("%s: policies already isolate it for %s and allow all that was "+
					"seen, so nothing is suggested", w, d))
				seen = true
				continue
			}
			p := Policy{Workload: w.Workload, Also: w.also, Direction: d, NetworkPolicy: &networkingv1.NetworkPolicy{
				TypeMeta: metav1.TypeMeta{
					APIVersion: networkingv1.SchemeGroupVersion.String(), Kind: "NetworkPolicy"},
				ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: names.of(w, d)},
				Spec: networkingv1.NetworkPolicySpec{PodSelector: selector.LabelSelector,
					PolicyTypes: []networkingv1.PolicyType{typeOf(d)}},
			}}
			s.written[subject{w, d}] = s.write(&p, needs)
			s.Policies = append(s.Policies, p)
		}
		if !seen {
			s.Notes = append(s.Notes, fmt.Sprintf("%s: no connection was seen, so its policies allow nothing", w))
		}
	}
	for _, w := range s.workloads {
		if w.selected != nil && w.selected.note != "" {
			s.Notes = append(s.Notes, w.selected.note)
		}
	}
	for _, np := range s.Cluster.Policies {
		if np.Namespace == s.Namespace && s.Cluster.Audited(np) && s.Cluster.Modes[s.Namespace] != policy.Audit {
			s.Notes = append(s.Notes, fmt.Sprintf("%s/%s is only audited, and what it allows is not suggested again: "+
				"enforce it first, or what is suggested stops that", np.Namespace, np.Name))
		}
	}
	for i, note := range s.Notes {
		s.Notes[i] = plain(note)
	}
	slices.Sort(s.Notes)
	s.Notes = slices.Compact(s.Notes)
}

func typeOf(d policy.Direction) networkingv1.PolicyType {
	if d == policy.Ingress {
		return networkingv1.PolicyTypeIngress
	}
	return networkingv1.PolicyTypeEgress
}

// names gives the policies unique names.
type names struct {
	used   map[string]bool
	shared map[string]bool // by workloads of several kinds
}

func (s *suggester) names() names {
	n := names{make(map[string]bool), make(map[string]bool)}
	for _, np := range s.now.policies[s.Namespace] {
		n.used[np.Name] = true
	}
	kinds := make(map[string]int)
	for _, w := range s.in(s.Namespace) {
		kinds[w.Name]++
		n.shared[w.Name] = kinds[w.Name] > 1
	}
	return n
}

// of returns the name of a workload's policy for a direction.
func (n names) of(w *workload, d policy.Direction) string {
	const longest = 253 // a DNS subdomain
	base, end := strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(w.title())), "-"+d.String()
	base = strings.TrimLeft(base, "-.")
	if n.shared[w.Name] {
		end = "-" + strings.ToLower(w.Kind) + end
	}
	for i := 2; ; i++ {
		name := strings.TrimLeft(strings.TrimRight(base[:min(len(base), longest-len(end))], "-.")+end, "-")
		if !n.used[name] {
			n.used[name] = true
			return name
		}
		end = fmt.Sprintf("%s-%d", strings.TrimSuffix(end, fmt.Sprintf("-%d", i-1)), i)
	}
}
