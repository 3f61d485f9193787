// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestAuditedAreNamed makes a policy of a cluster only audited: output that leaves it out says so, in every format.
func TestAuditedAreNamed(t *testing.T) {
	text, err := os.ReadFile(shop)
	if err != nil {
		t.Fatal(err)
	}
	const name = "name: backup, namespace: shop"
	audited := strings.Replace(string(text), "kind: NetworkPolicy\nmetadata: {"+name,
		"kind: NetworkPolicy\nmetadata: {annotations: {netpold.io/mode: audit}, "+name, 1)
	if audited == string(text) {
		t.Fatal("the policy is not in the manifests")
	}
	file := filepath.Join(t.TempDir(), "audited.yaml")
	if err := os.WriteFile(file, []byte(audited), 0o600); err != nil {
		t.Fatal(err)
	}
	const line, list = "Only audited, not counted: shop/backup\n", "\"auditedPolicies\": [\n    \"shop/backup\"\n  ]"
	for _, tc := range []struct{ args, want string }{
		{"connectivity -o txt", line}, {"connectivity -o md", line}, {"connectivity -o json", list},
		{"connectivity -o html", `<p id="audited">` + line}, {"connectivity -n kube-system", line},
		{"diff -o txt", line}, {"diff -o md", line}, {"diff -o json", list},
	} {
		args := strings.Fields(tc.args)
		if args[0] == "diff" {
			args = append(args, "-f", shop)
		}
		stdout, stderr, _ := execute(t.Context(), "", append(args, "-f", file)...)
		if !strings.Contains(stdout, tc.want) {
			t.Errorf("%s: no %q in\n%s%s", tc.args, tc.want, stdout, stderr)
		}
		if stdout, _, _ := execute(t.Context(), "", append(args, "-f", shop)...); strings.Contains(stdout, "udited") &&
			args[0] != "diff" && !strings.Contains(tc.args, "html") {
			t.Errorf("%s names audited policies where there are none:\n%s", tc.args, stdout)
		}
	}
	stdout, _, _ := execute(t.Context(), "", "diff", "-f", file, "-f", shop)
	if want := "Only audited before, not counted: shop/backup\n"; !strings.Contains(stdout, want) {
		t.Errorf("no %q in\n%s", want, stdout)
	}
}
