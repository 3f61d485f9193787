// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/netpold/netpold/watch"
)

// TestStatusCounts: one thing is named in the singular.
func TestStatusCounts(t *testing.T) {
	for n, want := range map[int][]string{
		0: {"0 pods for ingress", "0 isolations, 0 sets, 0 elements", "0 operations in", "0 recoveries;"},
		1: {"1 pod for ingress", "1 policy; 1 pod for ingress", "1 isolation, 1 set, 1 element\n", "1 operation in",
			"1 recovery;"},
		2: {"2 pods for ingress", "2 policies; 2 pods for ingress", "2 isolations, 2 sets, 2 elements",
			"2 operations in", "2 recoveries;"},
	} {
		var out bytes.Buffer
		if err := PrintStatus(&out, "", watch.Report{
			IsolatedPods: map[string]int{"ingress": n}, AuditedPods: map[string]int{"ingress": n},
			Policies:        watch.PoliciesReport{Audited: n},
			Table:           watch.TableReport{Isolations: n, Sets: n, Elements: n},
			LastTransaction: watch.TransactionReport{Time: time.Now(), Operations: n}, Recoveries: n,
		}); err != nil {
			t.Fatal(err)
		}
		for _, text := range want {
			if !strings.Contains(out.String(), text) {
				t.Errorf("of %d things, %q is missing:\n%s", n, text, &out)
			}
		}
	}
}
