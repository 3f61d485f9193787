// SPDX-License-Identifier: Apache-2.0

package translate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/policy"
)

const (
	top4 = "255.255.255.255"
	top6 = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
)

// TestCut cuts blocks at the edges of the families, and of IPv6 ranges that look like IPv4.
func TestCut(t *testing.T) {
	for _, row := range []struct{ blocks, want string }{
		{"0.0.0.0/0", "4 0.0.0.0-" + top4},
		{"::/0", "6 ::-" + top6},
		{"::/0 0.0.0.0/0", "4 0.0.0.0-" + top4 + " 6 ::-" + top6},
		{"0.0.0.0/0!0.0.0.0/32!255.255.255.255/32", "4 0.0.0.1-255.255.255.254"},
		{"::/0!::/128!" + top6 + "/128", "6 ::1-" + top6[:len(top6)-1] + "e"},
		{"0.0.0.0/32 255.255.255.255/32", "4 0.0.0.0-0.0.0.0 4 " + top4 + "-" + top4},
		{"::/128 " + top6 + "/128", "6 ::-:: 6 " + top6 + "-" + top6},
		// What is left begins at the first IPv4-mapped address, or ends at the last.
		{"::/0!::fffe:0:0/96", "6 ::-::fffd:ffff:ffff 6 ::ffff:0.0.0.0-" + top6},
		{"::/0!::fffe:8000:0/97", "6 ::-::fffe:7fff:ffff 6 ::ffff:0.0.0.0-" + top6},
		{"::/0!::fffe:ffff:ffff/128", "6 ::-::fffe:ffff:fffe 6 ::ffff:0.0.0.0-" + top6},
		{"::/0!::1:0:0:0/96", "6 ::-::ffff:255.255.255.255 6 ::1:1:0:0-" + top6},
		{"::/64!::fffe:0:0/96!::1:0:0:0/80",
			"6 ::-::fffd:ffff:ffff 6 ::ffff:0.0.0.0-::ffff:255.255.255.255 6 ::2:0:0:0-::ffff:ffff:ffff:ffff"},
		{"::fffe:0:0/95!::fffe:0:0/96", "6 ::ffff:0.0.0.0-::ffff:255.255.255.255"},
		{"::/0!::ffff:0:0/95", "6 ::-::fffd:ffff:ffff 6 ::1:0:0:0-" + top6},
		// Around it.
		{"::ffff:0:0/95", "6 ::fffe:0:0-::ffff:255.255.255.255"},
		{"::ffff:1.2.3.4/95", "6 ::fffe:0:0-::ffff:255.255.255.255"},
		{"::ffff:0:0/80", "6 ::-::ffff:255.255.255.255"},
		{"::/96", "6 ::-::ffff:ffff"},
		{"64:ff9b::/96", "6 64:ff9b::-64:ff9b::ffff:ffff"},
		// Adjacent.
		{"::fffe:0:0/96 ::1:0:0:0/96", "6 ::fffe:0:0-::fffe:ffff:ffff 6 ::1:0:0:0-::1:0:ffff:ffff"},
		{"::fffe:0:0/95 ::1:0:0:0/96", "6 ::fffe:0:0-::1:0:ffff:ffff"},
		{"::fffe:0:0/95 ::fffe:0:0/96", "6 ::fffe:0:0-::ffff:255.255.255.255"},
		{"10.0.0.0/9 10.128.0.0/9 11.0.0.0/32", "4 10.0.0.0-11.0.0.0"},
		// Only IPv4-mapped addresses: IPv4.
		{"::ffff:0:0/96", "4 0.0.0.0-" + top4},
		{"::ffff:0:0/96!10.0.0.0/8 ::/0", "4 0.0.0.0-9.255.255.255 4 11.0.0.0-" + top4 + " 6 ::-" + top6},
		{"::ffff:10.0.0.1/128", "4 10.0.0.1-10.0.0.1"},
	} {
		var got []string
		iso := isolationBy(t, row.blocks)
		for _, r := range iso.Blocks {
			got = append(got, fmt.Sprintf("%s %s-%s", r.Family, r.First, r.Last))
		}
		if text := strings.Join(got, " "); text != row.want {
			t.Errorf("%s: %s, want %s", row.blocks, text, row.want)
		}
	}
}

// blockOf reads "CIDR!EXCEPT!EXCEPT".
func blockOf(text string) *networkingv1.IPBlock {
	parts := strings.Split(text, "!")
	return &networkingv1.IPBlock{CIDR: parts[0], Except: parts[1:]}
}

// blockMap returns the map of the blocks of a family in a table that has one at most, or nil.
func blockMap(t *nft.Table, f nft.Family) *nft.Set {
	for _, set := range t.Sets() {
		if strings.HasSuffix(set.Name, "-blocks-"+f.String()) {
			return set
		}
	}
	return nil
}

// isolationBy returns the isolation of a pod by a policy with one rule for some blocks, whose intervals are in their
// families' maps.
func isolationBy(t *testing.T, blocks string) *isolation {
	t.Helper()
	s := New("node", Options{})
	name := types.NamespacedName{Namespace: "ns", Name: "a"}
	s.SetPod(policy.Pod{NamespacedName: name, Node: "node", IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}})
	np := &networkingv1.NetworkPolicy{}
	np.Namespace, np.Name, np.Spec.Ingress = name.Namespace, name.Name, make([]networkingv1.NetworkPolicyIngressRule, 1)
	for text := range strings.FieldsSeq(blocks) {
		np.Spec.Ingress[0].From = append(np.Spec.Ingress[0].From,
			networkingv1.NetworkPolicyPeer{IPBlock: blockOf(text)})
	}
	if err := s.SetPolicy(np); err != nil {
		t.Fatalf("%s: %v", blocks, err)
	}
	table := s.Complete()
	iso := s.index.Pod(name).Identity.Own.local.isolations[policy.Ingress]
	iso.allows = s.contentOf(iso) // it keeps no blocks
	for _, f := range nft.Families() {
		want := 0
		for _, r := range iso.Blocks {
			if r.Family != f {
				continue
			}
			want++
			if _, held := blockMap(table, f).Get(nft.PairKey(r.First, r.Last)); !held {
				t.Errorf("%s: %s-%s is not in the map of its family", blocks, r.First, r.Last)
			}
		}
		if set := blockMap(table, f); set != nil && set.Len() != want {
			t.Errorf("%s: the map of family %s has %d intervals, want %d", blocks, f, set.Len(), want)
		}
	}
	return iso
}
