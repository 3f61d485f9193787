// SPDX-License-Identifier: Apache-2.0

package monitoring_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestRules runs promtool on the rules and on the tests in tests.yaml.
func TestRules(t *testing.T) {
	promtool := program(t, "promtool")
	dir := t.TempDir()
	writeRules(t, filepath.Join(dir, "rules.yaml"))
	write(t, filepath.Join(dir, "tests.yaml"), content(t, "tests.yaml"))
	for _, args := range [][]string{{"check", "rules", "--lint=all", "--lint-fatal", "rules.yaml"},
		{"test", "rules", "tests.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestAlerts: each alert says what a person needs to know, tests.yaml has a test in which it fires and one in which it
// does not, and its text uses only labels that it has there.
func TestAlerts(t *testing.T) {
	tests := string(content(t, "tests.yaml"))
	doc := string(content(t, document))
	usedLabel := regexp.MustCompile(`\$labels\.(\w+)`)
	for _, r := range rules(t) {
		if r.Alert == "" {
			continue
		}
		if r.For == "" || !slices.Contains([]string{"critical", "warning"}, r.Labels["severity"]) ||
			r.Annotations["summary"] == "" || r.Annotations["description"] == "" {
			t.Errorf("%s lacks for, severity, summary or description: %+v", r.Alert, r)
		}
		anchor := "https://github.com/netpold/netpold/blob/main/docs/metrics.md#" + strings.ToLower(r.Alert)
		if r.Annotations["runbook_url"] != anchor || !strings.Contains(doc, "\n### "+r.Alert+"\n") {
			t.Errorf("%s: runbook_url %q, want %s, with that heading", r.Alert,
				r.Annotations["runbook_url"], anchor)
		}
		fires := regexp.MustCompile(`'ALERTS\{alertname="`+r.Alert+
			`",alertstate="firing",[^']*\}',?\s+value: 1`).FindAllString(tests, -1)
		silent := regexp.MustCompile(`ALERTS\{alertname="` + r.Alert + `".*exp_samples: \[\]`).MatchString(tests)
		if len(fires) == 0 || !silent {
			t.Errorf("tests.yaml: %s fires %d times, is silent: %t", r.Alert, len(fires), silent)
		}
		for _, m := range usedLabel.FindAllStringSubmatch(r.Annotations["summary"]+r.Annotations["description"], -1) {
			always := []string{"pod", "instance", "node"} // of every target, if the expression keeps them
			for _, alert := range fires {
				kept := !strings.Contains(r.Expr, " by (") && slices.Contains(always, m[1])
				if !kept && !strings.Contains(alert, m[1]+`="`) {
					t.Errorf("%s uses the label %s, which it does not have: %s", r.Alert, m[1], alert)
				}
			}
		}
	}
}
