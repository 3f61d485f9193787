// SPDX-License-Identifier: Apache-2.0

//go:build cluster

package cluster

import (
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"
)

// The CustomResourceDefinitions of prometheus-operator are files in its module.
const (
	operator    = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
	operatorSum = "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s="
)

// TestMonitoring checks manifests/monitoring against the schemas of prometheus-operator.
func TestMonitoring(t *testing.T) {
	out, err := exec.Command("go", "mod", "download", "-json", operator).Output()
	if err != nil {
		t.Fatalf("go mod download: %v\n%s", err, out)
	}
	var module struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &module); err != nil || module.Sum != operatorSum {
		t.Fatalf("%s is %+v (%v), want sum %s", operator, module, err, operatorSum)
	}
	enterNetns(t)
	c := New(t)
	for _, kind := range []string{"podmonitors", "prometheusrules"} {
		file := filepath.Join(module.Dir, "example/prometheus-operator-crd/monitoring.coreos.com_"+kind+".yaml")
		if _, err := c.Kubectl(t.Context(), "apply", "--server-side", "--filename="+file); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Kubectl(t.Context(), "wait", "--for=condition=Established", "--filename="+file); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Apply(t.Context(), filepath.Join(manifests, "monitoring")); err != nil {
		t.Fatal(err)
	}
	name, err := c.Kubectl(t.Context(), "get", "configmaps", "--namespace=kube-system",
		"--selector=grafana_dashboard=1", "--output=jsonpath={.items[*].data}")
	var dashboards map[string]string
	if err == nil {
		err = json.Unmarshal([]byte(name), &dashboards)
	}
	if err != nil || !json.Valid([]byte(dashboards["netpold.json"])) {
		t.Errorf("dashboards: %v, %.100s", err, name)
	}
}
