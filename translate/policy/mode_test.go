// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"fmt"
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/translate/policy"
)

// moded returns a policy with a mode annotation; "-" means none.
func moded(t *testing.T, name, mode, spec string) *networkingv1.NetworkPolicy {
	t.Helper()
	np := explainPolicy(t, name, spec)
	if mode != "-" {
		np.Annotations = map[string]string{policy.ModeAnnotation: mode}
	}
	return np
}

// TestAudited: the policy's own annotation overrides that of its namespace, and any value other than "audit" enforces.
func TestAudited(t *testing.T) {
	for _, row := range []struct {
		namespace, own string // "-" is no annotation
		audited        bool
		faults         int
	}{
		{"-", "-", false, 0},
		{"-", "audit", true, 0},
		{"-", "enforce", false, 0},
		{"audit", "-", true, 0},
		{"audit", "audit", true, 0},
		{"audit", "enforce", false, 0},
		{"enforce", "-", false, 0},
		{"enforce", "audit", true, 0},
		{"-", "Audit", false, 1},
		{"-", "", false, 1},
		{"audit", "", false, 1},
		{"audit", "dry-run", false, 1},
		{"dry-run", "-", false, 1},
		{"", "-", false, 1},
		{"", "audit", true, 1},
	} {
		c := shop(moded(t, "shop/p", row.own, `{}`))
		if row.namespace != "-" {
			c.Modes = map[string]string{"shop": row.namespace}
		}
		if got := c.Audited(c.Policies[0]); got != row.audited {
			t.Errorf("%+v: audited is %t", row, got)
		}
		e := c.Explain(flowOf(policy.Ingress, "web", "tcp/80"))
		if e.Allowed != row.audited || e.Ingress.Isolated == row.audited {
			t.Errorf("%+v: %+v", row, e.Ingress)
		}
		if faults := c.Faults(); len(faults) != row.faults {
			t.Errorf("%+v: %v", row, faults)
		}
	}
}

// TestExplainAudited: an audited policy isolates nothing and allows nothing; what it would do is the answer with all
// policies enforced.
func TestExplainAudited(t *testing.T) {
	const one, two = `{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 1}]}]}`,
		`{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 2}]}]}`
	for _, row := range []struct {
		one, two string // their modes
		want     string // of the ports 1, 2 and 3: yes or no, and what would be
	}{
		{"-", "-", "yes yes no"},
		{"audit", "audit", "yes/yes yes/yes yes/no"},
		{"audit", "-", "no/yes yes/yes no/no"},
		{"-", "audit", "yes/yes no/yes no/no"},
	} {
		c := shop(moded(t, "shop/one", row.one, one), moded(t, "shop/two", row.two, two))
		var got []string
		word := map[bool]string{true: "yes", false: "no"}
		for port := range 3 {
			d := c.Explain(flowOf(policy.Ingress, "web", fmt.Sprintf("tcp/%d", port+1))).Ingress
			text := word[d.Allowed]
			if d.Audit != nil {
				text += "/" + word[d.Audit.Allowed]
			}
			if d.WouldDeny() != (text == "yes/no") {
				t.Errorf("%s: would deny: %t", text, d.WouldDeny())
			}
			got = append(got, text)
		}
		if text := strings.Join(got, " "); text != row.want {
			t.Errorf("%+v: %s", row, text)
		}
	}
}

// TestDescribeAudited: the text for operators.
func TestDescribeAudited(t *testing.T) {
	const db = `{podSelector: {matchLabels: {app: db}}, ingress: [{ports: [{port: 5432}]}]}`
	f := flowOf(policy.Ingress, "bare", "tcp/80")
	for _, row := range []struct {
		policies []*networkingv1.NetworkPolicy
		want     string // of ingress
	}{
		{[]*networkingv1.NetworkPolicy{moded(t, "shop/db", "audit", db)},
			"allowed: no policy isolates it for ingress\n" +
				"    audited: with shop/db enforced, it would be denied: isolated by shop/db; no rule allows it " +
				"(nearest: shop/db spec.ingress[0]: it allows TCP 5432, not TCP 80)\n"},
		{[]*networkingv1.NetworkPolicy{moded(t, "shop/all", "audit", `{ingress: [{}]}`), moded(t, "shop/db", "-", db)},
			"denied: isolated by shop/db; no rule allows it (nearest: shop/db spec.ingress[0]: it allows TCP 5432, " +
				"not TCP 80)\n" +
				"    audited: with shop/all enforced, it would be allowed: isolated by shop/all, shop/db; " +
				"allowed by shop/all spec.ingress[0]\n"},
		{[]*networkingv1.NetworkPolicy{moded(t, "shop/none", "audit", `{}`)},
			"allowed: no policy isolates it for ingress\n" +
				"    audited: with shop/none enforced, it would be denied: isolated by shop/none, which allows " +
				"nothing\n"},
	} {
		c := shop(row.policies...)
		if text := c.Describe(c.Explain(f)); !strings.HasSuffix(text, "ingress of shop/db (10.0.0.2): "+row.want) {
			t.Errorf("want\n%s, got\n%s", row.want, text)
		}
	}
	c := shop(moded(t, "shop/none", "audit", `{}`))
	self := policy.Flow{Src: f.Dst, Dst: f.Dst, Proto: policy.TCP, DstPort: 80}
	if text := c.Describe(c.Explain(self)); strings.Contains(text, "audited") {
		t.Errorf("of what no policy could deny:\n%s", text)
	}
}
