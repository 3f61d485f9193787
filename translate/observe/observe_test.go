// SPDX-License-Identifier: Apache-2.0

package observe_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/translate/observe"
)

// TestSetPods: if there are ranges, a family without any counts nothing.
func TestSetPods(t *testing.T) {
	for _, c := range []struct{ ranges, four, six string }{
		{"", "@observed-pods-4", "@observed-pods-6"},
		{"10.1.0.0/16", "10.1.0.0/16", ""},
		{"10.1.0.0/16 10.3.0.0/24 fd00::/64", "10.1.0.0/16 10.3.0.0/24", "fd00::/64"},
		{"fd00::/64", "", "fd00::/64"},
	} {
		var ranges []netip.Prefix
		for p := range strings.FieldsSeq(c.ranges) {
			ranges = append(ranges, netip.MustParsePrefix(p))
		}
		table := nft.NewTable("t", "")
		observe.Add(table, 10)
		observe.SetPods(table, ranges)
		toSix := func(r nft.Rule) bool { return strings.HasSuffix(r.String(), "goto observe-6") }
		four, six := slices.DeleteFunc(table.Chain("observe").Rules, toSix), table.Chain("observe-6").Rules
		for _, f := range []struct {
			header, set, outside string
			rules                []nft.Rule
		}{{"ip", "flows-4", c.four, four}, {"ip6", "flows-6", c.six, six}} {
			var want []string
			for _, side := range []string{" saddr", " daddr"} {
				for p := range strings.FieldsSeq(f.outside) {
					want = append(want, f.header+side+" != "+p)
				}
			}
			want = append(want, "return")
			if got := f.rules[0].String(); got != strings.Join(want, " ") {
				t.Errorf("%q: %s, want %s", c.ranges, got, strings.Join(want, " "))
			}
			counts := false
			for _, r := range f.rules {
				counts = counts || strings.Contains(r.String(), "update @"+f.set)
			}
			if counts != (f.outside != "") {
				t.Errorf("%q: counted in %s: %t", c.ranges, f.set, counts)
			}
		}
	}
}
