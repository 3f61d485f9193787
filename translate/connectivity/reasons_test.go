// SPDX-License-Identifier: Apache-2.0

package connectivity_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// TestReasons compares what a page says about pairs of pods, and about pods and outside addresses, with Explain: what
// decides about a flow is named, and nothing that says otherwise.
func TestReasons(t *testing.T) {
	said := make(map[string]int)
	forSeeds(t, func(seed uint64) error {
		w := newWorld(seed)
		workloads := make([]int, len(w.matrix.Workloads))
		for i := range workloads {
			workloads[i] = i
		}
		var networks []connectivity.Networks
		outside := slices.Concat(w.outside[0], w.outside[1])
		outside = outside[:min(len(outside), 30)]
		for _, a := range outside {
			networks = append(networks, connectivity.Networks{{First: a, Last: a}})
		}
		r := w.matrix.Reasons(workloads, networks)
		for range 300 {
			f := w.flows.Next()
			if f.Service = false; isDiscovery(f) || f.Src == f.Dst {
				continue
			}
			e := w.cluster.Explain(f)
			for _, d := range []policy.Decision{e.Egress, e.Ingress} {
				own, peer := f.Src, f.Dst
				if d.Direction == policy.Ingress {
					own, peer = peer, own
				}
				steps, known := answer(w.matrix, r, d.Direction, own, peer, outside)
				if d.Exempt != "" || !known {
					continue
				}
				what, err := holds(f, d, steps)
				if err != nil {
					return fmt.Errorf("%s: %w: %+v", f, err, steps)
				}
				said[what]++
			}
		}
		return nil
	})
	t.Logf("said: %v", said)
	for _, what := range []string{"Admin", "Baseline", "allowed by", "denied", "open"} {
		if said[what] < 20 {
			t.Errorf("%s: said %d times only: %v", what, said[what], said)
		}
	}
}

// answer returns what is said at the end of a connection that has one address of the one that has another.
func answer(m *connectivity.Matrix, r *connectivity.Reasons, d policy.Direction, own, peer netip.Addr,
	outside []netip.Addr) (steps []connectivity.Said, known bool) {
	class, ok := m.ClassOf(own)
	if !ok || r.Classes[class].Sides[d] < 0 {
		return nil, false
	}
	side := r.Sides[r.Classes[class].Sides[d]]
	say := -1
	if c, ok := m.ClassOf(peer); ok {
		say = side.Peers[c]
	} else if n := slices.Index(outside, peer); n >= 0 {
		say = side.Networks[n]
	}
	if say < 0 {
		return nil, false
	}
	for _, n := range side.Says[say] {
		steps = append(steps, r.Said[n])
	}
	return steps, true
}

// holds says what decides about a flow, if the steps name it and no other step says something else.
func holds(f policy.Flow, d policy.Decision, steps []connectivity.Said) (what string, err error) {
	verdict, want := connectivity.Closed, ""
	if d.Allowed {
		verdict = connectivity.Open
	}
	switch {
	case d.Admin != nil && d.Admin.Action != "Pass":
		what, want = "Admin", d.Admin.String()+" "
	case d.Isolated && d.Allowed:
		what, want = "allowed by", "allowed by "+d.AllowedBy.String()
	case d.Isolated:
		what, want = "denied", "isolated by "+d.Policies[0].String()
	case d.Baseline != nil && d.Baseline.Action != "Pass":
		what, want = "Baseline", d.Baseline.String()+" "
	default:
		what, want = "open", "open: no policy isolates it for "+d.Direction.String()
	}
	found := false
	for _, s := range steps {
		has := s.Ports.Contains(f.Proto, f.DstPort)
		switch named := strings.HasPrefix(s.Text, want); {
		case named && (has && s.Verdict == verdict || what == "denied"):
			found = true
		case has && s.Verdict != "":
			if what != "allowed by" || s.Verdict != verdict { // other rules may allow it, too
				return what, fmt.Errorf("want %q, which is %s", want, verdict)
			}
		}
	}
	if !found {
		return what, fmt.Errorf("want %q", want)
	}
	return what, nil
}
