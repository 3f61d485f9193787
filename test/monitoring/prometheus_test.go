// SPDX-License-Identifier: Apache-2.0

package monitoring_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/url"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/netpold/netpold/test/harness/prober"
)

const prometheus = "127.0.0.1:9090"

// wellAt0 are the targets that show 0, or nothing, when all is well. All is well here, except for a rejected policy and
// a deleted table; netpold's findings depend on the machine.
var wellAt0 = []string{"Not ready A", "Source away A", "Preflight findings A", "Records of denied packets B",
	"Records of denied packets C"}

// configuration is what prometheus-operator makes of the PodMonitor, except for the target, which it finds by the pod's
// labels, and the interval.
func configuration(t *testing.T, dir string) []byte {
	t.Helper()
	var monitor podMonitor
	read(t, "monitoring/podmonitor.yaml", &monitor)
	e := monitor.Spec.PodMetricsEndpoints[0]
	relabel := []map[string]any{{"source_labels": []string{"__meta_kubernetes_pod_label_" +
		sanitised(monitor.Spec.JobLabel)}, "target_label": "job"}}
	for _, r := range e.Relabelings {
		relabel = append(relabel, map[string]any{"source_labels": r.SourceLabels, "target_label": r.TargetLabel})
	}
	writeRules(t, filepath.Join(dir, "rules.yaml"))
	text, err := yaml.Marshal(map[string]any{
		"global":     map[string]any{"scrape_interval": "1s", "evaluation_interval": "1s"},
		"rule_files": []string{"rules.yaml"},
		"scrape_configs": []map[string]any{{
			"job_name": "podMonitor/kube-system/netpold/0", "honor_labels": e.HonorLabels, "metrics_path": e.Path,
			"relabel_configs": relabel,
			"static_configs": []map[string]any{{"targets": []string{listen}, "labels": map[string]string{
				"namespace": "kube-system", "pod": "netpold-x", "container": "netpold", "endpoint": e.Port,
				"__meta_kubernetes_pod_node_name":                    "node-1",
				"__meta_kubernetes_pod_label_app_kubernetes_io_name": "netpold",
			}}},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// sanitised is a label's name in Prometheus.
func sanitised(label string) string { return regexp.MustCompile(`\W`).ReplaceAllString(label, "_") }

// TestPodMonitor: the PodMonitor finds the pods and the port of the DaemonSet.
func TestPodMonitor(t *testing.T) {
	var monitor podMonitor
	read(t, "monitoring/podmonitor.yaml", &monitor)
	var ds struct {
		Spec struct {
			Template struct {
				Metadata struct{ Labels map[string]string }
				Spec     struct {
					Containers []struct{ Ports []struct{ Name string } }
				}
			}
		}
	}
	if err := yaml.Unmarshal(content(t, filepath.Join(manifests, "base/daemonset.yaml")), &ds); err != nil {
		t.Fatal(err)
	}
	pod := ds.Spec.Template
	for label, value := range monitor.Spec.Selector.MatchLabels {
		if pod.Metadata.Labels[label] != value {
			t.Errorf("the pods have %v, not %s=%s", pod.Metadata.Labels, label, value)
		}
	}
	if pod.Metadata.Labels[monitor.Spec.JobLabel] != "netpold" {
		t.Errorf("the pods have %v: job is not netpold", pod.Metadata.Labels)
	}
	if e := monitor.Spec.PodMetricsEndpoints; len(e) != 1 || e[0].Port != pod.Spec.Containers[0].Ports[0].Name {
		t.Errorf("endpoints %+v, ports %+v", e, pod.Spec.Containers[0].Ports)
	}
}

// series is an answer of Prometheus: Value of an instant query, Values of a range query.
type series struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any
}

// last returns the newest value.
func (s series) last() float64 {
	v := s.Value
	if len(s.Values) > 0 {
		v = s.Values[len(s.Values)-1]
	}
	text, _ := v[1].(string)
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return f
}

// query asks Prometheus as Grafana does: for now, or for the last minute.
func query(expr string, instant bool) ([]series, error) {
	path := "/api/v1/query?" + url.Values{"query": {expr}}.Encode()
	if !instant {
		now := time.Now().Unix()
		path = "/api/v1/query_range?" + url.Values{"query": {expr}, "step": {"1"},
			"start": {strconv.FormatInt(now-60, 10)}, "end": {strconv.FormatInt(now, 10)}}.Encode()
	}
	body, err := get(prometheus, path)
	if err != nil {
		return nil, err
	}
	var answer struct{ Data struct{ Result []series } }
	err = json.Unmarshal(body, &answer)
	return answer.Data.Result, err
}

// testPrometheus lets Prometheus scrape netpold as the PodMonitor says, while packets are denied, pods come and go and
// the table is deleted, and makes all queries of the dashboard.
func testPrometheus(t *testing.T, netpold string) {
	program := program(t, "prometheus")
	p := prober.New(t)
	// Others may change the table, so that it drifts, and the set of flows is soon full.
	folder := startNetpold(t, netpold, "--own-table=false", "--observe", "--observe-max=1")
	dir := t.TempDir()
	write(t, filepath.Join(dir, "prometheus.yml"), configuration(t, dir))
	launch(t, program, "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+prometheus, "--log.level=warn")
	await(t, "Prometheus scrapes netpold", func() error {
		found, err := query(`up{job="netpold",node="node-1"} == 1`, true)
		if err == nil && len(found) == 0 {
			err = errors.New("no such target")
		}
		return err
	})
	if out, err := exec.Command("nft", "delete", "table", "inet", "netpold").CombinedOutput(); err != nil {
		t.Fatalf("nft: %v\n%s", err, out)
	}
	await(t, "netpold notices that its table is gone", func() error {
		found, err := query(`netpold_recoveries_total{reason="drift"} == 1`, true)
		if err == nil && len(found) == 0 {
			err = errors.New("no drift")
		}
		return err
	})
	rounds := 0
	step := func() { // what happens in a cluster
		rounds++
		deny(t, p, slices.Repeat([]prober.Probe{ingress(), ingress(), egress()}, perRound)...)
		if _, err := p.Run([]prober.Probe{audited(), ruled()}); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(folder, "guest.yaml"), []byte(guest(rounds)))
	}
	checkPanels(t, step)
	checkExact(t, rounds)
	await(t, "alerts are on", func() error { return checkAlerts(t) })
}

// perRound is how many packets are sent for each probe, so that there are enough for an alert.
const perRound = 50

// checkPanels repeats each panel's queries until there is data above 0, with the labels of its legend.
func checkPanels(t *testing.T, step func()) {
	t.Helper()
	for _, panel := range readDashboard(t).Panels {
		for _, q := range panel.Targets {
			name := panel.Title + " " + q.RefID
			var found []series
			await(t, name, func() (err error) {
				step()
				found, err = query(concrete(q.Expr), q.Instant)
				if err == nil && !slices.Contains(wellAt0, name) {
					err = checkData(found, q.LegendFormat)
				}
				return err
			})
			for _, s := range found {
				t.Logf("%s: %v %g", name, s.Metric, s.last())
			}
		}
	}
}

// checkData returns an error if there is nothing to see.
func checkData(found []series, legend string) error {
	if !slices.ContainsFunc(found, func(s series) bool { return s.last() > 0 }) {
		return fmt.Errorf("%d series, none above 0", len(found))
	}
	for _, m := range regexp.MustCompile(`\{\{(\w+)\}\}`).FindAllStringSubmatch(legend, -1) {
		if found[0].Metric[m[1]] == "" {
			return fmt.Errorf("no label %s: %v", m[1], found[0].Metric)
		}
	}
	return nil
}

// checkExact: Prometheus has exactly the denied packets that were sent, by the isolated pod's namespace.
func checkExact(t *testing.T, rounds int) {
	t.Helper()
	for direction, want := range map[string]int{"ingress": 2 * perRound * rounds, "egress": perRound * rounds} {
		await(t, "all drops are scraped", func() error {
			expr := `sum by (direction) (netpold_dropped_packets_total{namespace="shop",tier="NetworkPolicy",` +
				`direction="` + direction + `"})`
			found, err := query(expr, true)
			if err != nil || len(found) != 1 || int(found[0].last()) != want {
				return fmt.Errorf("%s: %v, want %d (%w)", expr, found, want, err)
			}
			return nil
		})
	}
}

// checkAlerts: Prometheus can evaluate all rules, and exactly the alerts for what has happened fire.
func checkAlerts(t *testing.T) error {
	t.Helper()
	body, err := get(prometheus, "/api/v1/rules")
	if err != nil {
		t.Fatal(err)
	}
	var answer struct {
		Data struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError, State string }
			}
		}
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	ofMachine := []string{"NetpoldPreflight", "NetpoldSlow"} // may fire, depending on the machine
	var on []string
	count := 0
	for _, g := range answer.Data.Groups {
		for _, r := range g.Rules {
			count++
			if r.Health != "ok" {
				return fmt.Errorf("rule %s: %s: %s", r.Name, r.Health, r.LastError)
			}
			if (r.State == "pending" || r.State == "firing") && !slices.Contains(ofMachine, r.Name) {
				on = append(on, r.Name)
			}
		}
	}
	want := []string{"NetpoldTableDrift", "NetpoldPolicyRejected", "NetpoldDropSurge"}
	if count != len(rules(t)) || !slices.Equal(on, want) {
		return fmt.Errorf("%d rules, want %d; firing: %v, want %v", count, len(rules(t)), on, want)
	}
	return nil
}
