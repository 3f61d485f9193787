// SPDX-License-Identifier: Apache-2.0

package suggest_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/suggest"
)

// TestWide: if more was seen than a policy can have, it becomes as much wider as it must, and says so. kubectl must
// still be able to apply it: it keeps a copy in an annotation, and annotations are limited to 256 KiB.
func TestWide(t *testing.T) {
	const tooMany = "ns-0/w0: ingress from or to more peers was seen than a policy can have, so it allows "
	for _, row := range []struct {
		name  string
		seen  func(r *suggest.Request, n int) flows.Flow
		flows int
		rules []string
		note  string
	}{
		{"addresses", func(r *suggest.Request, n int) flows.Flow {
			return between(flows.End{Address: numbered(11, n)}, podEnd(r.Cluster, 0), 443)
		}, 3000, []string{"from 3000 outside addresses: TCP 443, 3000 connections" + seenLast},
			tooMany + "networks of /24, of IPv6 of /64"},
		{"networks", func(r *suggest.Request, n int) flows.Flow {
			return between(flows.End{Address: numbered(11, n<<8)}, podEnd(r.Cluster, 0), 443)
		}, 3000, []string{"from 3000 outside addresses: TCP 443, 3000 connections" + seenLast},
			tooMany + "all addresses outside"},
		{"workloads", func(r *suggest.Request, n int) flows.Flow {
			return between(podEnd(r.Cluster, n), podEnd(r.Cluster, 0), 80)
		}, 3000, func() (all []string) {
			for n := range 30 {
				count := 100
				if n == 0 {
					count = 99 // a pod to itself is none
				}
				all = append(all, fmt.Sprintf("from all pods of ns-%d: TCP 80, %d connections%s", n, count, seenLast))
			}
			slices.Sort(all) // as below
			return all
		}(), tooMany + "whole namespaces"},
		{"ports", func(r *suggest.Request, n int) flows.Flow {
			port := 40000 + n
			if n < 40 {
				port = 1000 + 100*n
			}
			return between(podEnd(r.Cluster, 1), podEnd(r.Cluster, 0), port)
		}, 140, nil, ""},
	} {
		r := suggest.Request{Cluster: large(3000, 1, 100), Namespace: "ns-0"}
		for n := range row.flows {
			r.Flows = append(r.Flows, row.seen(&r, n))
		}
		s := suggest.Suggest(r)
		if len(s.Lost) > 0 {
			t.Errorf("%s: lost: %v", row.name, s.Lost[0])
		}
		for n := 0; n < len(r.Flows); n += 1 + len(r.Flows)/100 {
			if f := r.Flows[n]; !s.After.Explain(f.Question()).Allowed {
				t.Errorf("%s: %s -> %s %s is not allowed", row.name, f.From, f.To, f.Service())
			}
		}
		i := slices.IndexFunc(s.Policies, func(p suggest.Policy) bool { return p.Name == "w0-ingress" })
		text, err := json.Marshal(s.Policies[i].NetworkPolicy)
		if err != nil || len(text) > 256<<10 {
			t.Errorf("%s: %d bytes, %v", row.name, len(text), err)
		}
		if row.name == "ports" {
			checkPorts(t, s.Policies[i])
			continue
		}
		var comments []string
		for _, lines := range s.Policies[i].Rules {
			comments = append(comments, strings.Join(lines, "; "))
		}
		slices.Sort(comments)
		if diff := cmp.Diff(row.rules, comments); diff != "" {
			t.Errorf("%s: -want +got\n%s", row.name, diff)
		}
		if !slices.Contains(s.Notes, row.note) {
			t.Errorf("%s: no note %q", row.name, row.note)
		}
	}
}

// checkPorts: the ports nearest to each other became ranges, and the others are as they were seen.
func checkPorts(t *testing.T, p suggest.Policy) {
	t.Helper()
	var got []string
	for _, port := range p.Spec.Ingress[0].Ports {
		text := port.Port.String()
		if port.EndPort != nil {
			text += fmt.Sprintf("-%d", *port.EndPort)
		}
		got = append(got, text)
	}
	if len(got) != 32 || got[31] != "40040-40139" || got[30] != "4900" || got[0] != "1000-1900" {
		t.Errorf("%q", got)
	}
	const want = "from ns-0/w1: TCP 40040-40139, 100 connections" + seenLast
	if lines := p.Rules[0]; len(lines) != 32 || lines[31] != want {
		t.Errorf("%q", lines)
	}
}
