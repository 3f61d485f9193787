// SPDX-License-Identifier: Apache-2.0

package connectivity_test

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/policy"
)

// Flags to run other seeds, or a single one: go test ./translate/connectivity -seed=7 -clusters=1
var (
	firstSeed = flag.Uint64("seed", 0, "the first seed of the random clusters")
	clusters  = flag.Uint64("clusters", 64, "how many random clusters each test makes")
)

// world is a random cluster with all the addresses and services at which an answer may change.
type world struct {
	cluster  *policy.Cluster
	matrix   *connectivity.Matrix
	outside  [2][]netip.Addr // IPv4, IPv6
	pods     [2][]netip.Addr
	services []policy.Flow // no addresses
	flows    *random.Flows
	tiered   int // answers in which a tier had a say
}

// newWorld makes the cluster of a seed. Its pods belong to workloads of several, by their labels.
func newWorld(seed uint64) *world {
	r := random.Source(seed)
	w := &world{cluster: random.Cluster(r, random.SizeOf(seed))}
	if seed%2 == 0 {
		r = random.Source(seed)
		w.cluster = random.Tiered(r, random.SizeOf(seed))
	}
	for i := range w.cluster.Pods {
		if p := &w.cluster.Pods[i]; i%3 > 0 {
			p.Owner = "StatefulSet/" + p.Labels["app"] + "x"
		}
	}
	w.flows = random.NewFlows(r, w.cluster, nil)
	for _, node := range random.Nodes() {
		s := translate.New(node, translate.Options{Limits: random.Limits(seed)})
		_ = s.Add(w.cluster) // some do not compile, as they should
		w.cluster.OverLimit = append(w.cluster.OverLimit, s.OverLimit()...)
	}
	w.matrix = connectivity.New(w.cluster)
	seen := make(map[netip.Addr]bool)
	for _, p := range w.cluster.Pods {
		for _, a := range p.IPs {
			if !seen[a] {
				w.pods[family(a)] = append(w.pods[family(a)], a)
			}
			seen[a] = true
		}
	}
	services := make(map[policy.Flow]bool)
	for range 600 {
		f := w.flows.Next()
		for _, a := range []netip.Addr{f.Src, f.Dst} {
			if !seen[a] {
				w.outside[family(a)] = append(w.outside[family(a)], a)
			}
			seen[a] = true
		}
		if f.Proto == policy.ICMPv6 {
			f.ICMPType = 128 // an IPv4 flow may have had a type that is neighbour discovery in IPv6
		}
		f.Src, f.Dst, f.Service = netip.Addr{}, netip.Addr{}, false
		if len(services) < 25 && !services[f] {
			w.services = append(w.services, f)
		}
		services[f] = true
	}
	return w
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// isDiscovery says whether a flow is IPv6 neighbour discovery, which a matrix leaves out.
func isDiscovery(f policy.Flow) bool {
	return f.Src.Is6() && f.Proto == policy.ICMPv6 && f.ICMPType >= 133 && f.ICMPType <= 137
}

// check compares one flow with the oracle.
func (w *world) check(f policy.Flow) error {
	if f.Service = false; isDiscovery(f) {
		return nil
	}
	open := w.matrix.Open(f.Src, f.Dst)
	e := w.cluster.Explain(f)
	for _, d := range []policy.Decision{e.Egress, e.Ingress} {
		if d.Admin != nil || d.Baseline != nil {
			w.tiered++
		}
	}
	if want := e.Allowed; open.Contains(f.Proto, f.DstPort) != want {
		return fmt.Errorf("%s: explain says %t, and open is %s", f, want, open)
	}
	return nil
}

// TestOpen compares with Explain every pair of pods, pods and addresses next to the borders of all networks in both
// directions, and flows that aim at rules.
func TestOpen(t *testing.T) {
	checked, tiered := 0, 0
	forSeeds(t, func(seed uint64) error {
		w := newWorld(seed)
		for range 600 {
			if err := w.check(w.flows.Next()); err != nil {
				return err
			}
		}
		for family, pods := range w.pods {
			pods = pods[:min(len(pods), 40)]
			outside := w.outside[family]
			for i, p := range pods {
				peers := slices.Concat(pods, outside[min(len(outside), i%5*8):min(len(outside), i%5*8+8)])
				for _, q := range peers {
					f := w.services[checked%len(w.services)]
					for _, f.Src = range []netip.Addr{p, q} {
						f.Dst = p
						if f.Src == p {
							f.Dst = q
						}
						if err := w.check(f); err != nil {
							return err
						}
						checked++
					}
				}
			}
		}
		tiered += w.tiered
		return nil
	})
	t.Logf("%d pairs and %d aimed flows; in %d answers a tier had a say", checked, 600**clusters, tiered)
	if tiered < checked/50 {
		t.Error("the tiers hardly have a say")
	}
}

// forSeeds runs check for some seeds, always the same ones without flags; a failure names its seed.
func forSeeds(t *testing.T, check func(seed uint64) error) {
	t.Helper()
	n := *clusters
	if testing.Short() {
		n /= 8
	}
	for seed := *firstSeed; seed < *firstSeed+n; seed++ {
		if err := check(seed); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
	}
}
