// SPDX-License-Identifier: Apache-2.0

// Package monitoring_test holds manifests/monitoring and docs/metrics.md against what netpold serves, with Prometheus'
// own programs.
package monitoring_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/test/harness/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Run(m)) }

// Where things are, from here.
const (
	manifests = "../../manifests"
	document  = "../../docs/metrics.md"
)

// program returns the path of a program; without it the test is skipped, or fails if CI is set.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	netns.Require(t, err)
	return path
}

// read decodes a file of manifests, in which every field must be known.
func read(t *testing.T, name string, into any) {
	t.Helper()
	if err := yaml.UnmarshalStrict(content(t, filepath.Join(manifests, name)), into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// meta is of every object.
type meta struct {
	APIVersion, Kind string
	Metadata         struct{ Name string }
}

// prometheusRule is as much of a PrometheusRule as ours has.
type prometheusRule struct {
	meta
	Spec struct{ Groups []ruleGroup }
}

type ruleGroup struct {
	Name  string `json:"name"`
	Rules []rule `json:"rules"`
}

type rule struct {
	Record      string            `json:"record,omitempty"`
	Alert       string            `json:"alert,omitempty"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels,omitempty"`
	Annotations map[string]string `json:"annotations,omitempty"`
}

// rules returns all rules.
func rules(t *testing.T) []rule {
	t.Helper()
	var object prometheusRule
	read(t, "monitoring/prometheusrule.yaml", &object)
	var all []rule
	for _, g := range object.Spec.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no rules")
	}
	return all
}

// writeRules writes the rules into a file that Prometheus reads.
func writeRules(t *testing.T, path string) {
	t.Helper()
	var object prometheusRule
	read(t, "monitoring/prometheusrule.yaml", &object)
	text, err := yaml.Marshal(map[string]any{"groups": object.Spec.Groups})
	if err != nil {
		t.Fatal(err)
	}
	write(t, path, text)
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// podMonitor is as much of a PodMonitor as ours has.
type podMonitor struct {
	meta
	Spec struct {
		Selector            struct{ MatchLabels map[string]string }
		JobLabel            string
		PodMetricsEndpoints []endpoint
	}
}

type endpoint struct {
	Port, Path, Interval string
	HonorLabels          bool
	Relabelings          []struct {
		SourceLabels []string
		TargetLabel  string
	}
}

// dashboard is as much of a dashboard as the tests look at.
type dashboard struct {
	Templating struct {
		List []struct{ Name, Type, Query string }
	}
	Panels []panel
}

type panel struct {
	Title, Description string
	Datasource         struct{ Type, UID string }
	Targets            []target
}

type target struct {
	RefID, Expr, LegendFormat string
	Instant                   bool
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	var d dashboard
	if err := json.Unmarshal(content(t, filepath.Join(manifests, "monitoring/dashboard.json")), &d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) == 0 {
		t.Fatal("no panels")
	}
	return d
}
