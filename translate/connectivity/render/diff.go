// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bufio"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate/connectivity"
)

// DiffFormat writes a diff.
type DiffFormat func(io.Writer, *connectivity.Diff) error

// DiffFormats returns the formats of a diff by name.
func DiffFormats() map[string]DiffFormat {
	return map[string]DiffFormat{"txt": DiffText, "md": DiffMarkdown, "json": DiffJSON}
}

// same is the output for equal clusters.
const same = "No connection is gained or lost.\n"

// changes returns the changes as rows, the gained ones first.
func changes(d *connectivity.Diff) table {
	t := table{header: []string{"", "FROM", "TO", "PORTS", "WHY"}, width: []int{6, 26, 26, 16, 34}}
	if !slices.ContainsFunc(d.Changes, func(c connectivity.Change) bool { return len(c.Causes) > 0 }) {
		t.header, t.width = t.header[:4], []int{6, 40, 40, 26} // summaries have no causes
	}
	t.rows = func(yield func([][]string) bool) {
		for _, gained := range []bool{true, false} {
			for _, c := range d.Changes {
				if c.Gained == gained && !yield(changeRow(d, c)[:len(t.header)]) {
					return
				}
			}
		}
	}
	return t
}

// changeRow returns a change as a row of a table.
func changeRow(d *connectivity.Diff, c connectivity.Change) [][]string {
	word := "lost"
	if c.Gained {
		word = "gained"
	}
	var why []string
	for _, cause := range c.Causes {
		why = append(why, strings.Split(cause.String(), ", ")...)
	}
	return [][]string{{word}, d.Text(c.From), d.Text(c.To), splitPorts(c.Ports.String()), why}
}

// rosterText says which workloads are in only one cluster, and which policies do not count.
func rosterText(d *connectivity.Diff) string {
	var text strings.Builder
	for _, part := range []struct {
		title string
		which []int
	}{{"New workloads", d.Added}, {"Workloads that are gone", d.Removed}} {
		if len(part.which) > 0 {
			names := d.Text(connectivity.Side{Workloads: part.which})
			fmt.Fprintf(&text, "%s: %s\n", part.title, strings.Join(names, ", "))
		}
	}
	if !slices.Equal(d.Audited[0], d.Audited[1]) {
		text.WriteString(auditedText("Only audited before, not counted", d.Audited[0]))
	}
	text.WriteString(auditedText("Only audited, not counted", d.Audited[1]))
	return text.String()
}

// auditedText names the first few audited policies in a line; it is empty if there are none.
func auditedText(title string, all []types.NamespacedName) string {
	const most = 20
	list, more := fullNames(all), ""
	if len(list) > most {
		list, more = list[:most], fmt.Sprintf(" and %d more", len(list)-most)
	}
	if len(list) == 0 {
		return ""
	}
	return title + ": " + strings.Join(list, ", ") + more + "\n"
}

// DiffText writes a diff for a terminal of 120 columns.
func DiffText(w io.Writer, d *connectivity.Diff) error {
	text := rosterText(d)
	if len(d.Changes) == 0 {
		text += same
	}
	if _, err := io.WriteString(w, text); err != nil || len(d.Changes) == 0 {
		return err
	}
	return changes(d).text(w)
}

// DiffMarkdown writes a diff for a pull request.
func DiffMarkdown(w io.Writer, d *connectivity.Diff) error {
	b := bufio.NewWriter(w) // it keeps the first error, for Flush
	fmt.Fprint(b, "### Connectivity\n\n")
	fmt.Fprint(b, escape(strings.ReplaceAll(rosterText(d), "\n", "\n\n")))
	if len(d.Changes) == 0 {
		fmt.Fprint(b, same)
	} else {
		changes(d).markdown(b)
	}
	return b.Flush()
}

// DiffDocument is a diff in JSON.
type DiffDocument struct {
	Added   []string     `json:"addedWorkloads"`   // ids of workloads only in the new cluster
	Removed []string     `json:"removedWorkloads"` // only in the old one
	Changes []ChangeText `json:"changes"`

	// Policies that do not count, "namespace/name".
	AuditedBefore []string `json:"auditedPoliciesBefore,omitempty"` // of the old cluster
	Audited       []string `json:"auditedPolicies,omitempty"`       // of the new one
}

// ChangeText is a [connectivity.Change] in JSON.
type ChangeText struct {
	Change string             `json:"change"` // gained or lost
	From   EndText            `json:"from"`
	To     EndText            `json:"to"`
	Ports  connectivity.Ports `json:"ports"`
	Causes []CauseText        `json:"causes"`
}

// CauseText is the reason for a change.
type CauseText struct {
	Direction string   `json:"direction,omitempty"`
	Policies  []string `json:"policies,omitempty"`
	Rules     []string `json:"rules,omitempty"` // of ClusterNetworkPolicies
	Text      string   `json:"text"`
}

// DiffJSON writes a diff as a [DiffDocument].
func DiffJSON(w io.Writer, d *connectivity.Diff) error {
	ids := idsOf(&d.Roster)
	return writeDocument(w, []array{
		names("addedWorkloads", ids.of(d.Added)),
		names("removedWorkloads", ids.of(d.Removed)),
		{"changes", len(d.Changes), func(i int) any { return changeText(ids, d.Changes[i]) }},
	}, names("auditedPoliciesBefore", fullNames(d.Audited[0])), names("auditedPolicies", fullNames(d.Audited[1])))
}

// changeText returns a change in JSON.
func changeText(ids workloadIDs, c connectivity.Change) ChangeText {
	text := ChangeText{Change: "lost", From: ids.end(c.From), To: ids.end(c.To), Ports: c.Ports}
	if c.Gained {
		text.Change = "gained"
	}
	for _, cause := range c.Causes {
		t := CauseText{Text: cause.String()}
		for _, p := range cause.Policies {
			t.Policies = append(t.Policies, p.String())
		}
		for _, r := range cause.Rules {
			t.Rules = append(t.Rules, r.String())
		}
		if len(cause.Policies)+len(cause.Rules) > 0 {
			t.Direction = cause.Direction.String()
		}
		text.Causes = append(text.Causes, t)
	}
	return text
}
