// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"encoding/json"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// audited returns a policy that is only audited.
func audited(np *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	np.Annotations = map[string]string{policy.ModeAnnotation: policy.Audit}
	return np
}

// newAuditTest is newDropTest with only audited policies; its chains are theirs.
func newAuditTest(t *testing.T) *dropTest {
	t.Helper()
	d := newDropTest(t)
	d.edit(t, func(s *translate.State) {
		for name := range s.Policies() {
			np, _ := s.Policy(name)
			setPolicy(t, s, audited(np))
		}
	})
	for _, c := range d.state.Complete().Chains() {
		if k, ok := frame.KindOf(c.Name); ok && k.Audit {
			d.chains[k.Direction] = c.Name
		}
	}
	return d
}

// TestAuditLine: the line about a packet that audited policies would deny has the names and the nearest rule, as for a
// drop.
func TestAuditLine(t *testing.T) {
	const head = "TCP connection from shop/web-1 (10.0.0.0:56648) to shop/db-0 (10.0.0.1:6379) "
	for name, row := range map[string]struct {
		change func(*testing.T, *translate.State) // between the packet and its line
		want   string
	}{
		"as it is": {nil, `level=INFO msg="` + head + "would be blocked: ingress of shop/db-0 is audited by " +
			"shop/db-allow, shop/deny-all and no rule allows it (nearest: shop/db-allow spec.ingress[0]: it allows " +
			`TCP 5432, not TCP 6379)" direction=ingress protocol=tcp src=10.0.0.0 dst=10.0.0.1 srcPort=56648 ` +
			`dstPort=6379 srcPod=shop/web-1 dstPod=shop/db-0 dstOwner=StatefulSet/db audit=true ` +
			`policies="[shop/db-allow shop/deny-all]" count=1`},
		"allowed now": {func(t *testing.T, s *translate.State) { setPolicy(t, s, audited(dbAllow(6379))) },
			head + "would have been blocked: ingress of shop/db-0 was audited by shop/db-allow, shop/deny-all; the " +
				`current policies allow it"`},
		"enforced now": {func(t *testing.T, s *translate.State) { setPolicy(t, s, dbAllow(5432)) },
			head + "would have been blocked: ingress of shop/db-0 was audited by shop/db-allow, 1 more; the " +
				`current policies block it"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := newAuditTest(t)
				packet := d.drop("10.0.0.0", "10.0.0.1", 6379)
				if row.change != nil {
					d.edit(t, func(s *translate.State) { row.change(t, s) })
				}
				d.batches <- []Packet{packet}
				d.Expect(t, row.want)
			})
		})
	}
}

// TestAuditApart: what would be denied has its own history and table of pairs, and no flood of it costs a drop its
// line.
func TestAuditApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDropTest(t)
		denied := d.drop("10.0.0.0", "10.0.0.1", 6379)
		var flood []Packet
		for port := range uint16(batchSize - 1) {
			p := d.drop("10.0.0.0", "10.0.0.1", 1+port)
			p.Prefix = "audit-" + p.Prefix
			flood = append(flood, p)
		}
		told := make([]string, 0, batchSize+1)
		for range flood {
			told = append(told, "would have been blocked")
		}
		d.batches <- append(flood, denied)
		d.Expect(t, append([]string{"to shop/db-0 (10.0.0.1:6379) blocked: "}, told...)...)
		for query, want := range map[string]int{"": 1, "?audit=false": 1, "?audit=true": batchSize - 1} {
			answer := httptest.NewRecorder()
			d.ServeLines(answer, httptest.NewRequest("GET", "/drops"+query, nil))
			lines := slices.Collect(strings.Lines(answer.Body.String()))
			for _, text := range lines {
				var line Line
				if err := json.Unmarshal([]byte(text), &line); err != nil || line.Audit != (query == "?audit=true") {
					t.Errorf("%s: %v: %s", query, err, text)
				}
			}
			answer = httptest.NewRecorder()
			d.ServeTop(answer, httptest.NewRequest("GET", "/drops/top"+query, nil))
			var top Top
			err := json.Unmarshal(answer.Body.Bytes(), &top)
			if err != nil || len(top.Pairs) != want || len(lines) != want {
				t.Errorf("%s: %d lines and %d pairs, want %d: %v", query, len(lines), len(top.Pairs), want, err)
			}
		}
	})
}
