// SPDX-License-Identifier: Apache-2.0

package adopting_test

import (
	"os"
	"path/filepath"
	"testing"
)

// TestAudit runs the commands of docs/audit.md.
func TestAudit(t *testing.T) {
	n := newNode(t)
	deny := `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: default-deny
  namespace: shop
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
`
	if err := os.WriteFile(filepath.Join(n.dir, "deny.yaml"), []byte(deny), 0o600); err != nil {
		t.Fatal(err)
	}
	n.page("../../docs/audit.md", "netpold drops", "netpold explain", "netpold status", "kubectl annotate",
		"the application works", "the intruder is stopped")
}
