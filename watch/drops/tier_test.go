// SPDX-License-Identifier: Apache-2.0

package drops

import (
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/translate/policy"
)

// guardPolicy denies shop's pods port 6379 of each other, except of web-9, by its second rule.
func guardPolicy(t *testing.T, action string) policy.ClusterPolicy {
	t.Helper()
	p, err := policy.ReadClusterPolicy(fmt.Appendf(nil, `{"metadata": {"name": "shop-guard"}, "spec": {
		"tier": "Admin", "priority": 1, "subject": {"namespaces": {}}, "ingress": [
		{"action": "Accept", "from": [{"pods": {"namespaceSelector": {},
		"podSelector": {"matchLabels": {"app": "web-9"}}}}]},
		{"action": %q, "name": "no-redis", "from": [{"namespaces": {}}],
		"protocols": [{"tcp": {"destinationPort": {"number": 6379}}}]}]}}`, action))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// auditedGuard is guardPolicy, but only audited.
func auditedGuard(t *testing.T, action string) policy.ClusterPolicy {
	t.Helper()
	p := guardPolicy(t, action)
	p.Annotations = map[string]string{policy.ModeAnnotation: policy.Audit}
	return p
}

// tierLine is a line about what a rule of a ClusterNetworkPolicy denies, or would, after a change.
type tierLine struct {
	change func(*testing.T, *translate.State)
	want   string
}

// play lets the second rule of p in a tier deny a packet, and expects the line.
func (l tierLine) play(t *testing.T, tier frame.Tier, p policy.ClusterPolicy) *dropTest {
	t.Helper()
	d := newDropTest(t)
	d.edit(t, func(s *translate.State) { s.SetClusterPolicy(p) })
	drop := d.drop("10.0.0.0", "10.0.0.1", uint16(p.Spec.Ingress[1].Protocols[0].TCP.DestinationPort.Number))
	drop.Prefix = frame.TierRule{Tier: tier, Direction: policy.Ingress, Policy: p.Name, Index: 1}.Chain()
	if d.state.Complete().Chain(drop.Prefix) == nil {
		t.Errorf("no chain %s in\n%s", drop.Prefix, d.state.Complete())
	}
	if l.change != nil {
		d.edit(t, func(s *translate.State) { l.change(t, s) })
	}
	d.batches <- []Packet{drop}
	d.Expect(t, l.want)
	return d
}

// TestTierAuditLine: the line about what a rule of an audited ClusterNetworkPolicy would deny has the rule and the
// nearest one, as for a drop, and is kept apart from drops.
func TestTierAuditLine(t *testing.T) {
	const head = "TCP connection from shop/web-1 (10.0.0.0:56648) to shop/db-0 (10.0.0.1:5432) "
	const rule = "ingress of shop/db-0: Admin: shop-guard rule 2 `no-postgres` "
	guard := func(t *testing.T, action string) policy.ClusterPolicy {
		p := auditedGuard(t, action)
		p.Spec.Ingress[1].Name, p.Spec.Ingress[1].Protocols[0].TCP.DestinationPort.Number = "no-postgres", 5432
		return p
	}
	for name, row := range map[string]tierLine{
		"as it is": {nil, head + "would be blocked: " + rule + "denies (nearest: Admin: shop-guard rule 1: its peers " +
			"do not include shop/web-1 (labels app=web-1; namespace labels <none>))\" direction=ingress protocol=tcp"},
		"policies": {nil, `dstOwner=StatefulSet/db audit=true policies=[shop-guard] count=1`},
		"allowed now": {func(t *testing.T, s *translate.State) { s.SetClusterPolicy(guard(t, "Accept")) },
			head + "would have been blocked: " + rule + `denied; the current policies allow it"`},
		"enforced now": {func(t *testing.T, s *translate.State) {
			p := guard(t, "Deny")
			p.Annotations = nil
			s.SetClusterPolicy(p)
		}, head + "would have been blocked: " + rule + `denied; the current policies block it"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := row.play(t, frame.AuditAdmin, guard(t, "Deny"))
				for query, want := range map[string]int{"": 0, "?audit=true": 1} {
					answer := httptest.NewRecorder()
					d.ServeLines(answer, httptest.NewRequest("GET", "/drops"+query, nil))
					if got := strings.Count(answer.Body.String(), "\n"); got != want {
						t.Errorf("/drops%s has %d lines, want %d", query, got, want)
					}
				}
			})
		})
	}
}

// TestTierDropLine: a line says which rule of a ClusterNetworkPolicy denies, and what has happened to it since.
func TestTierDropLine(t *testing.T) {
	const head = "TCP connection from shop/web-1 (10.0.0.0:56648) to shop/db-0 (10.0.0.1:6379) "
	const rule = "ingress of shop/db-0: Admin: shop-guard rule 2 `no-redis` "
	for name, row := range map[string]tierLine{
		"denied": {nil, head + "blocked: " + rule + "denies (nearest: Admin: shop-guard rule 1: its peers do not " +
			`include shop/web-1 (labels app=web-1; namespace labels <none>))" direction=ingress protocol=tcp`},
		"policies": {nil, `dstOwner=StatefulSet/db policies=[shop-guard] count=1`},
		"allowed now": {func(t *testing.T, s *translate.State) {
			s.SetClusterPolicy(guardPolicy(t, "Accept"))
		}, head + "was blocked: " + rule + `denied; the current policies allow it"`},
		"passed now": {func(t *testing.T, s *translate.State) {
			s.SetClusterPolicy(guardPolicy(t, "Pass"))
		}, head + "was blocked: " + rule + `denied; another policy denies it now"`},
		"no policy now": {func(_ *testing.T, s *translate.State) {
			s.DeleteClusterPolicy("shop-guard")
		}, head + `was blocked: ingress of shop/db-0: Admin: shop-guard rule 2 denied; another policy denies it now"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { row.play(t, frame.Admin, guardPolicy(t, "Deny")) })
		})
	}
}
