// SPDX-License-Identifier: Apache-2.0

package policy_test

import (
	"testing"

	"github.com/netpold/netpold/translate/policy"
)

// TestDidYouMean: the name that was meant is found, and none if nothing is close.
func TestDidYouMean(t *testing.T) {
	names := []string{"shop/web-6d4cf56db6-x2x9p", "shop/db-0", "shop/db-1", "monitoring/agent",
		"kube-system/coredns-5d78c9869d-4bx8k"}
	for name, want := range map[string]string{
		"shop/bd-0":           "shop/db-0",
		"shop/db-2":           "shop/db-0", // of two that are as near, the first
		"shop/web":            "shop/web-6d4cf56db6-x2x9p",
		"default/db-1":        "shop/db-1",
		"monitorin/agnet":     "monitoring/agent",
		"monitoring/agnt":     "monitoring/agent",
		"kube-system/coredns": "kube-system/coredns-5d78c9869d-4bx8k",
		"shop/db-01":          "shop/db-0",
		"shop/postgres":       "",
		"":                    "",
	} {
		if want != "" {
			want = " (did you mean " + want + "?)"
		}
		if got := policy.DidYouMean(name, names); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}
