// SPDX-License-Identifier: Apache-2.0

package suggest

import (
	"bytes"
	"encoding/json"
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
	b := page{known: make(map[string]string)}
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
func (p Policy) write(b *page) error {
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
		text, err := b.block(map[string]any{part.key: part.value}, strings.Repeat("  ", part.depth))
		if err != nil {
			return err
		}
		b.WriteString(text)
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
		text, err := b.block(peers, "    ")
		if err != nil {
			return err
		}
		b.WriteString("  - " + strings.TrimPrefix(text, "    "))
		if len(ports) > 0 {
			if text, err = b.block(map[string]any{"ports": ports}, "    "); err != nil {
				return err
			}
			b.WriteString(text)
		}
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

// page is the text so far. It keeps the YAML of short values, because making YAML is slow and many rules have the same
// peers or ports.
type page struct {
	bytes.Buffer
	known map[string]string // by indent and JSON
}

// block returns a value as YAML, indented.
func (b *page) block(value any, indent string) (string, error) {
	const longest = 1000 // bytes of JSON of a value whose YAML is kept
	text, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	key := indent + string(text)
	if written, known := b.known[key]; known {
		return written, nil
	}
	if text, err = yaml.JSONToYAML(text); err != nil {
		return "", err
	}
	var written strings.Builder
	for line := range strings.Lines(string(text)) {
		written.WriteString(indent + line)
	}
	if len(key) <= longest {
		b.known[key] = written.String()
	}
	return written.String(), nil
}
