// SPDX-License-Identifier: Apache-2.0

package monitoring_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// use is what an expression uses: matchers by metric, as label -> value, and the labels that it groups by.
type use struct {
	metrics map[string]map[string]string
	groups  []string
}

var (
	promToken = regexp.MustCompile(`"(?:[^"\\]|\\.)*"|\[[^]]*\]|[a-zA-Z_:][a-zA-Z0-9_:]*|` +
		`[0-9][0-9a-z.]*|[=!]~|[<>=!]=|.`)
	promWord = regexp.MustCompile(`^[a-zA-Z_:]`)
	grouping = map[string]bool{"by": true, "without": true, "on": true, "ignoring": true, "group_left": true,
		"group_right": true}
	operators = map[string]bool{"and": true, "or": true, "unless": true, "offset": true, "bool": true}
)

// uses parses a PromQL expression far enough to see what it uses. It ignores what patterns match, and what is excluded.
func uses(expr string) use {
	u := use{metrics: make(map[string]map[string]string)}
	var tokens []string
	for _, token := range promToken.FindAllString(expr, -1) {
		if strings.TrimSpace(token) != "" {
			tokens = append(tokens, token)
		}
	}
	closing, metric := "", "" // of the current list; the metric before it
	labels := false           // the list has the labels of a group
	for i, token := range tokens {
		next := append(tokens[i+1:], "", "")
		switch {
		case token == closing:
			closing, labels = "", false
		case closing == "}" && promWord.MatchString(token):
			value := ""
			if next[0] == "=" {
				value = strings.Trim(next[1], `"`)
			}
			u.metrics[metric][token] = value
		case labels && promWord.MatchString(token):
			u.groups = append(u.groups, token)
		case token == "{":
			closing = "}"
		case grouping[token]:
			closing, labels = ")", true
		case promWord.MatchString(token) && !operators[token] && next[0] != "(" && !grouping[next[0]]:
			metric = token
			if u.metrics[metric] == nil {
				u.metrics[metric] = make(map[string]string)
			}
		}
	}
	return u
}

func TestUses(t *testing.T) {
	for expr, want := range map[string]use{
		`a`: {map[string]map[string]string{"a": {}}, nil},
		`sum by (x, y) (rate(a{b="c", d=~"e.*"}[5m])) > 10 * b:c offset 1h`: {
			map[string]map[string]string{"a": {"b": "c", "d": ""}, "b:c": {}}, []string{"x", "y"}},
		`max(a) by (x) unless on (y) (b or vector(0))`: {map[string]map[string]string{"a": {}, "b": {}},
			[]string{"x", "y"}},
		`histogram_quantile(0.99, sum by (le) (rate(a_bucket[10m]))) > 1e3`: {
			map[string]map[string]string{"a_bucket": {}}, []string{"le"}},
	} {
		if diff := cmp.Diff(want, uses(expr), cmp.AllowUnexported(use{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", expr, diff)
		}
	}
}
