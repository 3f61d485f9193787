// SPDX-License-Identifier: Apache-2.0

// Package monitoring_test compares manifests/monitoring and docs/metrics.md with what netpold serves, using Prometheus'
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

// Paths from here.
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

// read decodes a file of manifests strictly.
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

// meta is what every object has.
type meta struct {
	APIVersion, Kind string
	Metadata         struct{ Name string }
}

// prometheusRule is the part of a PrometheusRule that ours uses.
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

// writeRules writes the rules to a file for Prometheus.
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

// podMonitor is the part of a PodMonitor that ours uses.
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

// dashboard is the part of a dashboard that the tests check.
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
