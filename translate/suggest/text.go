// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"unicode"

	networkingv1 "k8s.io/api/networking/v1"
	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/translate/policy"
)

// Write writes the policies as YAML that `kubectl apply -f -` takes, with comments.
func (s *Suggestion) Write(w io.Writer) error {
	var b bytes.Buffer
	if s.Seen > 0 && len(s.Policies) > 0 {
		fmt.Fprintf(&b, "# Suggested by netpold from %s.\n", s.SeenText())
	}
	for i, p := range s.Policies {
		if i > 0 {
			b.WriteString("---\n")
		}
		if err := p.write(&b); err != nil {
			return fmt.Errorf("write NetworkPolicy %s/%s: %w", p.Namespace, p.Name, err)
		}
	}
	_, err := w.Write(b.Bytes())
	return err
}

// write writes a policy in the order in which people write it.
func (p Policy) write(b *bytes.Buffer) error {
	w := workload{Workload: p.Workload, also: p.Also}
	fmt.Fprintf(b, "# %s of %s\n", p.Direction, plain(fmt.Sprintf("%s (%s)", &w, p.Workload.Kind)))
	metadata := map[string]string{"name": p.Name, "namespace": p.Namespace}
	for _, part := range []struct {
		key   string
		value any
		depth int
	}{
		{"apiVersion", p.APIVersion, 0}, {"kind", p.Kind, 0}, {"metadata", metadata, 0}, {"spec", nil, 0},
		{"podSelector", p.Spec.PodSelector, 1}, {"policyTypes", p.Spec.PolicyTypes, 1},
	} {
		if part.value == nil {
			fmt.Fprintf(b, "%s:\n", part.key)
			continue
		}
		if err := block(b, map[string]any{part.key: part.value}, strings.Repeat("  ", part.depth)); err != nil {
			return err
		}
	}
	if len(p.Rules) == 0 {
		fmt.Fprintf(b, "  %s: [] # nothing was seen\n", p.Direction)
		return nil
	}
	fmt.Fprintf(b, "  %s:\n", p.Direction)
	for i, comment := range p.Rules {
		for _, line := range comment {
			fmt.Fprintf(b, "  # %s\n", plain(line))
		}
		peers, ports := p.rule(i)
		var rule bytes.Buffer
		if err := block(&rule, peers, "    "); err != nil {
			return err
		}
		if len(ports) > 0 {
			if err := block(&rule, map[string]any{"ports": ports}, "    "); err != nil {
				return err
			}
		}
		b.WriteString("  - " + strings.TrimPrefix(rule.String(), "    "))
	}
	return nil
}

// rule returns the peers of a rule by the name of their field, and its ports.
func (p Policy) rule(i int) (peers map[string]any, ports []networkingv1.NetworkPolicyPort) {
	if p.Direction == policy.Ingress {
		r := p.Spec.Ingress[i]
		return map[string]any{"from": r.From}, r.Ports
	}
	r := p.Spec.Egress[i]
	return map[string]any{"to": r.To}, r.Ports
}

// plain returns text that stays on its line. Whoever creates pods can put anything into the name of a pod's controller.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '?'
	}, text)
}

// block writes a value as YAML, indented.
func block(b *bytes.Buffer, value any, indent string) error {
	text, err := yaml.Marshal(value)
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(text)) {
		b.WriteString(indent + line)
	}
	return nil
}
