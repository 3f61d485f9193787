// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/observe"
	"github.com/netpold/netpold/translate/policy"
)

// countedFlow is a flow as the kernel counts it.
type countedFlow struct {
	kind   observe.Kind
	family nft.Family
	key    nft.Key
}

// checkObserved compares the kernel's flow counts, if the table counts flows, with its verdicts: exactly the denied
// flows are counted as denied, and every flow from or to a pod of the node is counted.
func (f *fuzz) checkObserved(where string, table *nft.Table, flows []policy.Flow, forwarded []bool) {
	set := table.FindSet("flows-4")
	if set == nil {
		return
	}
	counted := make(map[countedFlow]uint64)
	for _, s := range observe.Sets(set.Type.Dynamic.Max) {
		elements, err := f.conn.Elements(f.Context(), frame.TableName, s.Name, s.Type)
		if err != nil {
			f.Fatal(err)
		}
		for _, e := range elements {
			counted[countedFlow{s.Kind, s.Type.Family, e.Key}] = e.Packets
		}
	}
	for i, flow := range flows {
		if !tracked(flow) {
			continue
		}
		f.observed++
		k := countedFlow{family: nft.FamilyOf(flow.Src), key: nft.PairKey(flow.Src, flow.Dst)}
		k.key.Proto, k.key.Port = flow.Proto, flow.DstPort
		pods := table.FindSet("observed-pods-" + k.family.String())
		_, from := pods.Get(nft.AddrKey(flow.Src))
		_, to := pods.Get(nft.AddrKey(flow.Dst))
		all := counted[k] - f.counted[k]
		k.kind = observe.Denied
		denied := counted[k] - f.counted[k]
		if forwarded[i] == (denied > 0) || (from || to) && all == 0 {
			f.Fatalf("%s: %s, forwarded: %t, is counted %d times, as denied %d times\n%s", where, flow, forwarded[i],
				all, denied, table)
		}
	}
	f.counted = counted
}
