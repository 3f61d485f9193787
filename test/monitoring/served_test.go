// SPDX-License-Identifier: Apache-2.0

package monitoring_test

import (
	"bytes"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// family is a metric: its type, and the values of each label.
type family struct {
	kind   string
	labels map[string][]string
}

var (
	typeLine   = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
	sampleLine = regexp.MustCompile(`(?m)^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? \S+$`)
	labelPair  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
)

// parse parses the text that Prometheus scrapes. A histogram is listed under its own name and those of its samples.
func parse(t *testing.T, text []byte) map[string]family {
	t.Helper()
	served := make(map[string]family)
	for _, m := range typeLine.FindAllStringSubmatch(string(text), -1) {
		served[m[1]] = family{m[2], make(map[string][]string)}
	}
	for _, m := range sampleLine.FindAllStringSubmatch(string(text), -1) {
		name := m[1]
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if _, ok := served[name]; !ok {
			served[name] = family{"sample of " + base, make(map[string][]string)}
		}
		for _, pair := range labelPair.FindAllStringSubmatch(m[2], -1) {
			for _, f := range []family{served[name], served[base]} {
				if f.labels != nil && !slices.Contains(f.labels[pair[1]], pair[2]) {
					f.labels[pair[1]] = append(f.labels[pair[1]], pair[2])
				}
			}
		}
	}
	return served
}

// checkLint runs promlint on everything that is served, including go_ and process_.
func checkLint(t *testing.T, text []byte) {
	problems, err := promlint.New(bytes.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// checkLabels: no label has values that users of the cluster or senders of packets can make up, such as ports, pods or
// addresses. Namespaces and ClusterNetworkPolicies are only as many as the cluster has.
func checkLabels(t *testing.T, served map[string]family) {
	allowed := []string{"direction", "namespace", "tier", "policy", "rule", "state", "result", "reason", "check",
		"version", "goversion", "le"}
	for name, f := range served {
		for label := range f.labels {
			if strings.HasPrefix(name, "netpold_") && !slices.Contains(allowed, label) {
				t.Errorf("%s has the label %s", name, label)
			}
		}
	}
}

// targetLabels are the labels that Prometheus adds to the samples of a PodMonitor's target, the last one by its
// relabelings.
func targetLabels() []string {
	return []string{"job", "instance", "namespace", "pod", "container", "endpoint", "node"}
}

// checkUsed: everything that the dashboard and the alerts query is served.
func checkUsed(t *testing.T, served map[string]family) {
	known := maps.Clone(served)
	known["up"] = family{}
	for _, r := range rules(t) {
		if r.Record != "" {
			of := family{labels: make(map[string][]string)}
			for _, label := range uses(r.Expr).groups {
				of.labels[label] = nil
			}
			known[r.Record] = of
		}
	}
	for where, expr := range expressions(t) {
		u := uses(expr)
		labels := targetLabels()
		for metric, matchers := range u.metrics {
			f, ok := known[metric]
			if !ok {
				t.Errorf("%s: %s is not served", where, metric)
				continue
			}
			labels = slices.AppendSeq(labels, maps.Keys(f.labels))
			for label, value := range matchers {
				values, ok := f.labels[label]
				if !ok && !slices.Contains(targetLabels(), label) || ok && value != "" &&
					!slices.Contains(values, value) {
					t.Errorf("%s: %s{%s=%q} is not served", where, metric, label, value)
				}
			}
		}
		for _, label := range u.groups {
			if !slices.Contains(labels, label) {
				t.Errorf("%s: nothing has the label %s", where, label)
			}
		}
	}
}

// expressions returns all PromQL expressions, by their place, with Grafana's variables replaced.
func expressions(t *testing.T) map[string]string {
	t.Helper()
	all := make(map[string]string)
	for _, r := range rules(t) {
		all["rule "+r.Alert+r.Record] = r.Expr
	}
	d := readDashboard(t)
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all["panel "+p.Title+" "+q.RefID] = concrete(q.Expr)
		}
	}
	for _, v := range d.Templating.List {
		if inner, ok := strings.CutPrefix(v.Query, "label_values("); ok {
			metric, label, _ := strings.Cut(strings.TrimSuffix(inner, ")"), ", ")
			all["variable "+v.Name] = "count by (" + label + ") (" + metric + ")"
		}
	}
	return all
}

// concrete replaces the dashboard's variables with values.
func concrete(expr string) string {
	return strings.NewReplacer("$__rate_interval", "10s", "$node", ".*", "$namespace", ".*").Replace(expr)
}

// documentedMetric is a row of a table: the name, the type, labels.
var documentedMetric = regexp.MustCompile("(?m)^\\| `(netpold_\\w+)(?:\\{([\\w,]+)\\})?` \\| (\\w+) \\|")

// checkDocumented: docs/metrics.md has each metric, with its type and labels, and no others.
func checkDocumented(t *testing.T, served map[string]family) {
	got, want := make(map[string]string), make(map[string]string)
	for _, m := range documentedMetric.FindAllStringSubmatch(string(content(t, document)), -1) {
		got[m[1]] = m[3] + " " + m[2]
	}
	for name, f := range served {
		if strings.HasPrefix(name, "netpold_") && !strings.HasPrefix(f.kind, "sample of") {
			labels := slices.DeleteFunc(slices.Sorted(maps.Keys(f.labels)), func(l string) bool { return l == "le" })
			want[name] = f.kind + " " + strings.Join(labels, ",")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("metrics in %s (-served +documented):\n%s", filepath.Base(document), diff)
	}
}

// TestDashboard checks what Grafana does not: each panel has a description, and uses the chosen data source.
func TestDashboard(t *testing.T) {
	d := readDashboard(t)
	for _, p := range d.Panels {
		if p.Title == "" || p.Description == "" || p.Datasource.Type != "prometheus" ||
			p.Datasource.UID != "${datasource}" || len(p.Targets) == 0 {
			t.Errorf("panel %+v", p)
		}
	}
	if v := d.Templating.List[0]; v.Name != "datasource" || v.Type != "datasource" {
		t.Errorf("the first variable is %+v", v)
	}
}
