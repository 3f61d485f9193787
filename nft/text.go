// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"fmt"
	"io"
	"strings"
)

// String returns the table in nft(8) syntax: what `nft -f` loads and `nft -s list table` (version 1.0.6) then prints,
// except for the order of elements. Sets come before chains, each sorted by name.
func (t *Table) String() string {
	var b strings.Builder
	_, _ = t.WriteTo(&b) // a Builder does not fail
	return b.String()
}

// WriteTo writes the text of [Table.String] to w.
func (t *Table) WriteTo(w io.Writer) (int64, error) {
	comment := ""
	if t.Comment != "" {
		comment = fmt.Sprintf("\tcomment %q\n", t.Comment)
	}
	blocks := make([]string, 0, len(t.sets)+len(t.chains.Want()))
	for _, s := range t.Sets() {
		blocks = append(blocks, s.text())
	}
	for _, c := range t.Chains() {
		blocks = append(blocks, c.text())
	}
	n, err := fmt.Fprintf(w, "table inet %s {\n%s%s}\n", t.Name, comment, strings.Join(blocks, "\n"))
	return int64(n), err
}

// declaration returns the lines of the set's block before the elements.
func (s *Set) declaration() []string {
	lines := append([]string{"type " + s.Type.typeText()}, s.Type.Dynamic.declaration()...)
	if room := s.Type.room(s.Len()); room > 0 {
		lines = append(lines, fmt.Sprintf("size %d", room))
	}
	if s.Type.Interval() {
		lines = append(lines, "flags interval")
	}
	if s.Type.Counter {
		lines = append(lines, "counter")
	}
	if s.Comment != "" {
		lines = append(lines, fmt.Sprintf("comment %q", s.Comment))
	}
	return lines
}

// text returns the set's block.
func (s *Set) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\t%s %s {\n", s.Type.keyword(), s.Name)
	for _, line := range s.declaration() {
		fmt.Fprintf(&b, "\t\t%s\n", line)
	}
	if s.Len() > 0 {
		items := make([]string, 0, s.Len())
		for _, e := range s.Elements() {
			items = append(items, e.Text(s.Type))
		}
		fmt.Fprintf(&b, "\t\telements = { %s }\n", strings.Join(items, ",\n\t\t\t     "))
	}
	b.WriteString("\t}\n")
	return b.String()
}

// declaration returns the lines of the chain's block before the rules.
func (c *Chain) declaration() []string {
	var lines []string
	if c.Base != nil {
		lines = append(lines, c.Base.text())
	}
	if c.Comment != "" {
		lines = append(lines, fmt.Sprintf("comment %q;", CleanComment(c.Comment)))
	}
	return lines
}

// text returns the chain's block.
func (c *Chain) text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
	if c.Comment != "" { // nft(8) lists it first
		fmt.Fprintf(&b, "\t\tcomment %q\n", CleanComment(c.Comment))
	}
	if c.Base != nil {
		fmt.Fprintf(&b, "\t\t%s\n", c.Base.text())
	}
	for _, r := range c.Rules {
		fmt.Fprintf(&b, "\t\t%s\n", r)
	}
	b.WriteString("\t}\n")
	return b.String()
}
