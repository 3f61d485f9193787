// SPDX-License-Identifier: Apache-2.0

package random

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/netpold/netpold/translate/policy"
)

// Size is how many objects of each kind a cluster's universe has. A cluster has at most that many.
type Size struct {
	Namespaces, Pods, Policies int
}

// Small is a size at which in most clusters every object interacts with every other.
func Small() Size { return Size{Namespaces: 3, Pods: 9, Policies: 6} }

// Large is a size at which isolations with many policies and many selectors are frequent.
func Large() Size { return Size{Namespaces: 5, Pods: 40, Policies: 16} }

// Huge is a size at which sets have hundreds of elements, and overlapping blocks make dozens of intervals.
func Huge() Size { return Size{Namespaces: 6, Pods: 160, Policies: 40} }

// SizeOf is the size of a seed's cluster in the tests: most are small, and some are huge.
func SizeOf(seed uint64) Size {
	switch {
	case seed%32 == 31:
		return Huge()
	case seed%8 == 7:
		return Large()
	}
	return Small()
}

// Nodes are the names of the nodes that pods are on.
func Nodes() [2]string { return [...]string{"node-1", "node-2"} }

// Source returns the source of randomness of a seed.
func Source(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// Cluster returns a random cluster.
func Cluster(r *rand.Rand, size Size) *policy.Cluster { return NewGenerator(r, size).Cluster() }

// Generator makes the objects of one cluster.
type Generator struct {
	r     *rand.Rand
	size  Size
	pods  [2][]netip.Addr // that pods may have: IPv4, IPv6
	valid bool            // the policies that it makes now compile
	tiers bool            // there are ClusterNetworkPolicies
}

// NewGenerator returns a generator of objects of one cluster.
func NewGenerator(r *rand.Rand, size Size) *Generator {
	g := &Generator{r: r, size: size}
	for family, pool := range [2][]netip.Addr{podsIPv4(), podsIPv6()} {
		r.Shuffle(len(pool), func(i, j int) { pool[i], pool[j] = pool[j], pool[i] })
		g.pods[family] = pool
		if n := size.Pods + 2; n < len(pool) { // few more than pods, so that some pods claim the same one
			g.pods[family] = pool[:n]
		}
	}
	return g
}

// Cluster returns a cluster of up to the generator's size.
func (g *Generator) Cluster() *policy.Cluster {
	c := &policy.Cluster{Namespaces: make(map[string]map[string]string), Nodes: make(map[string][]netip.Prefix)}
	for i := range g.size.Namespaces {
		if g.chance(85) {
			c.Namespaces[namespaceName(i)] = g.namespaceLabels()
			c.SetMode(namespaceName(i), g.mode(10))
		}
	}
	for i := range g.size.Pods {
		if g.chance(85) {
			c.Pods = append(c.Pods, g.pod(i))
		}
	}
	for i := range g.size.Policies {
		if g.chance(85) {
			c.Policies = append(c.Policies, g.policy(i))
		}
	}
	for _, node := range Nodes() {
		c.Nodes[node] = g.podCIDRs()
	}
	c.GateReached = g.chance(80)
	return c
}

// chance is true in percent of 100 cases.
func (g *Generator) chance(percent int) bool { return g.r.IntN(100) < percent }

// pick returns one of the items.
func pick[T any](r *rand.Rand, items ...T) T { return items[r.IntN(len(items))] }

// few returns a small number, with a long tail up to limit.
func (g *Generator) few(limit int) int {
	n := 0
	for n < limit && g.chance(55) {
		n++
	}
	return n
}

func namespaceName(i int) string { return fmt.Sprintf("ns-%d", i) }

// objectName is the i-th name of a kind of object. Some are as long as possible, with dots.
func objectName(kind string, i int) string {
	if i%7 == 5 {
		kind = strings.Repeat("long.", 48) + kind // 250 bytes at most, of the 253 that a DNS subdomain may have
	}
	return fmt.Sprintf("%s-%d", kind, i)
}

// namespaceLabels returns labels of a namespace.
func (g *Generator) namespaceLabels() map[string]string {
	labels := make(map[string]string)
	if g.chance(70) {
		labels["team"] = pick(g.r, "red", "blue", "green")
	}
	if g.chance(40) {
		labels["env"] = pick(g.r, "prod", "test", "")
	}
	return labels
}
