// SPDX-License-Identifier: Apache-2.0

package spec_test

import (
	"strings"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/spec"
)

// TestCompileBlock: an invalid except, such as an IPv4-mapped network that the API server takes for IPv4, invalidates
// its rule, but the policy still isolates.
func TestCompileBlock(t *testing.T) {
	for _, text := range []string{
		"::/0!::ffff:0:0/96", "::/0!10.0.0.0/8", "::fffe:0:0/95!::ffff:1.2.3.4/128", "::ffff:0:0/96!::/97",
	} {
		parts := strings.Split(text, "!")
		block := networkingv1.NetworkPolicyPeer{IPBlock: &networkingv1.IPBlock{CIDR: parts[0], Except: parts[1:]}}
		np := &networkingv1.NetworkPolicy{}
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{From: []networkingv1.NetworkPolicyPeer{block}}}
		p, err := spec.Compile(np)
		if err == nil || !strings.Contains(err.Error(), "spec.ingress[0].from[0].ipBlock.except[0]") ||
			!strings.Contains(err.Error(), "must be a strict subset") {
			t.Errorf("%s: %v", text, err)
		}
		if !p.Isolates[policy.Ingress] || len(p.Rules[policy.Ingress]) != 0 {
			t.Errorf("%s: isolates %v, with rules %v", text, p.Isolates, p.Rules)
		}
	}
}
