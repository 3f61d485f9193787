// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate"
)

// TestQuarantineTiers is [TestQuarantine] for ClusterNetworkPolicies: if an object of a list of rules is refused,
// everything is denied to its subjects in that tier and direction, and nobody else is affected.
func TestQuarantineTiers(t *testing.T) {
	ofList := regexp.MustCompile("^(admin|baseline)-(egress|ingress)-(list|class|rule|peers|networks|ports)-")
	kinds := make(map[string]int)
	for seed := range uint64(8) {
		r := random.Source(seed)
		state := translate.New("node-1", translate.Options{})
		state.Add(random.Tiered(r, random.SizeOf(seed)))
		byKind := make(map[string][]nft.Op)
		for _, op := range state.Complete().Take().Ops {
			for _, one := range singles(op) {
				name := ""
				if one.Chain != nil {
					name = one.Chain.Name
				} else if one.Set != nil {
					name = one.Set.Name
				}
				if m := ofList.FindStringSubmatch(name); m != nil {
					kind := fmt.Sprint(one.Verb, "-", m[1], "-", m[3])
					byKind[kind] = append(byKind[kind], one)
				}
			}
		}
		for _, kind := range slices.Sorted(maps.Keys(byKind)) {
			for later := range 2 {
				cause := []nft.Cause{nft.Unfit, nft.Mismatch, nft.Shortage}[(len(kinds)+int(seed)+later)%3]
				op := byKind[kind][r.IntN(len(byKind[kind]))]
				t.Run(fmt.Sprintf("%d/%s/%d/%d", seed, kind, later, cause), func(t *testing.T) {
					kinds[kind]++
					synctest.Test(t, func(t *testing.T) {
						r := random.Source(seed)
						refuseOne(newCaseOf(t, r, random.Tiered(r, random.SizeOf(seed))), op, later, cause, nil)
					})
				})
			}
		}
	}
	t.Logf("%d kinds of objects: %v", len(kinds), kinds)
	if len(kinds) < 15 {
		t.Errorf("only %d kinds of objects: %v", len(kinds), kinds)
	}
}
