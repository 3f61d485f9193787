// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// TestAudit: what an audited policy would deny passes and is reported; without the annotation it is denied.
func TestAudit(t *testing.T) {
	s := newScene(t)
	policies := s.client.NetworkingV1().NetworkPolicies(s.namespace)
	_, err := policies.Create(t.Context(), &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "silent", Annotations: map[string]string{"netpold.io/mode": "audit"}},
		Spec: networkingv1.NetworkPolicySpec{
			PodSelector: metav1.LabelSelector{MatchLabels: map[string]string{"role": "silent"}},
			PolicyTypes: []networkingv1.PolicyType{networkingv1.PolicyTypeEgress},
		},
	}, metav1.CreateOptions{})
	s.must(err)
	s.create(s.pod("silent", "silent", s.near,
		`while curl -s -m 2 -o /dev/null $DISTANT/hostname; do echo through; sleep 0.2; done
echo shut >/dev/termination-log`))
	daemon := s.daemon(s.near)
	if daemon == nil {
		t.Fatalf("no netpold on %s", s.near)
	}
	want := "would be blocked: egress of " + s.namespace + "/silent is audited by " + s.namespace + "/silent"
	s.eventually("netpold drops --audit has the line", func() bool {
		out, err := kubectl(t.Context(), "-n", daemon.Namespace, "exec", daemon.Name, "--", "netpold", "drops",
			"--audit", "--namespace="+s.namespace)
		return err == nil && strings.Contains(out, want)
	})
	s.eventually("connections pass", func() bool { return strings.Count(s.logs("silent"), "through") > 10 })
	_, err = policies.Patch(t.Context(), "silent", types.MergePatchType,
		[]byte(`{"metadata": {"annotations": {"netpold.io/mode": null}}}`), metav1.PatchOptions{})
	s.must(err)
	if words := s.finished("role=silent", 1)["silent"]; strings.TrimSpace(words) != "shut" {
		t.Errorf("the pod ended with %q", words)
	}
}
