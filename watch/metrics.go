// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/denied"
	"github.com/netpold/netpold/watch/preflight"
)

// Reasons of a recovery, which replaces the whole table; values of the label "reason".
const (
	ReasonTransaction = "transaction" // a transaction failed
	ReasonDrift       = "drift"       // another program changed the table
)

// metrics are the loop's metrics. The only label values chosen by users are names of namespaces and, by the
// administrator, of ClusterNetworkPolicies.
type metrics struct {
	transactions  *prometheus.CounterVec
	duration      prometheus.Histogram
	eventToKernel prometheus.Histogram
	recoveries    *prometheus.CounterVec
	lastCommit    prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		transactions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "netpold_transactions_total",
			Help: "Transactions sent to the kernel, by result: committed or failed.",
		}, []string{"result"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "netpold_transaction_duration_seconds",
			Help:    "Time that the kernel took to commit a transaction.",
			Buckets: latencyBuckets(),
		}),
		eventToKernel: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "netpold_event_to_kernel_seconds",
			Help:    "Time from an event's arrival to the commit of its transaction.",
			Buckets: latencyBuckets(),
		}),
		recoveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "netpold_recoveries_total",
			Help: "Replacements of the whole table after the start, by reason: transaction (one failed) or drift " +
				"(another program changed the table).",
		}, []string{"reason"}),
		lastCommit: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "netpold_last_commit_timestamp_seconds",
			Help: "Unix time of the last committed transaction.",
		}),
	}
	for _, result := range []string{"committed", "failed"} {
		m.transactions.WithLabelValues(result)
	}
	for _, reason := range []string{ReasonTransaction, ReasonDrift} {
		m.recoveries.WithLabelValues(reason)
	}
	return m
}

// Collectors returns the metrics of the loop and its parts, to be registered.
func (l *Loop) Collectors() []prometheus.Collector {
	m := l.metrics
	return append(slices.Concat(l.drops.Collectors(), l.flows.Collectors()), newStateCollector(l), m.transactions,
		m.duration, m.eventToKernel, m.recoveries, m.lastCommit)
}

// latencyBuckets are the upper bounds of all histograms, in seconds. They are the same so that quantiles can be
// compared; these are off by a factor of 2.5 at most.
func latencyBuckets() []float64 {
	return []float64{50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1, 2, 5, 10}
}

// committed counts a committed transaction: its time, how long the kernel took, and the delay since its oldest event,
// if it has any.
func (m *metrics) committed(at time.Time, elapsed time.Duration, oldest time.Time) {
	m.transactions.WithLabelValues("committed").Inc()
	m.duration.Observe(elapsed.Seconds())
	m.lastCommit.Set(float64(at.UnixNano()) / 1e9)
	if !oldest.IsZero() {
		m.eventToKernel.Observe(at.Sub(oldest).Seconds())
	}
}

// stateCollector reads the loop's state when scraped.
type stateCollector struct {
	loop  *Loop
	descs []*prometheus.Desc

	audited, audits, rules *prometheus.Desc

	policies, isolated, elements, preflight, denied, unknown, deniedAsOf, ready, source, dropLog, build *prometheus.Desc
}

func newStateCollector(l *Loop) *stateCollector {
	c := &stateCollector{loop: l}
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		d := prometheus.NewDesc(name, help, labels, nil)
		c.descs = append(c.descs, d)
		return d
	}
	c.policies = desc("netpold_policies",
		"NetworkPolicies of the cluster, by state: effective (isolates a pod of this node), rejected (does not "+
			"compile in full), "+
			"over-limit (asks for more than a limit), quarantined (the kernel refused its rules), "+
			"unenforced (it refused everything that would isolate a pod), audited (by its mode), unaudited (audited, "+
			"but its rules were refused), or idle.", "state")
	c.isolated = desc("netpold_isolated_pods", "Pods of this node that a policy isolates, by direction.", "direction")
	c.audited = desc("netpold_audited_pods",
		"Pods of this node that audited policies select, by direction.", "direction")
	c.audits = desc("netpold_audit_packets_total",
		"Packets that passed and that audited policies would deny, by direction, namespace of the audited pod, "+
			"and tier of these policies: Admin, NetworkPolicy or Baseline.",
		"direction", "namespace", "tier")
	c.elements = desc("netpold_set_elements", "Elements of all sets and maps of the table.")
	c.preflight = desc("netpold_preflight_findings",
		"Whether traffic bypasses the policies on this node, by check: 1 if something was found.", "check")
	c.denied = desc("netpold_dropped_packets_total",
		"Packets denied by the policies of this node's pods, by direction and namespace of the isolated pod, and "+
			"by tier: Admin, NetworkPolicy or Baseline.", "direction", "namespace", "tier")
	c.rules = desc("netpold_cluster_policy_denied_packets_total",
		"Packets that a rule of a ClusterNetworkPolicy denied to or from this node's pods, by tier, policy, direction "+
			"and rule, counted from 1 in each direction.", "tier", "policy", "direction", "rule")
	c.unknown = desc("netpold_unknown_pod_drops_total",
		"Packets to and from this node's pod addresses that belong to no known pod, dropped by the guard, by "+
			"direction: egress is from such an address.", "direction")
	c.deniedAsOf = desc("netpold_dropped_packets_timestamp_seconds",
		"Unix time of the last read of netpold_dropped_packets_total; 0 before the first read.")
	c.ready = desc("netpold_ready",
		"1 when the source is synced and its policies are in force, as /readyz says; else 0.")
	c.source = desc("netpold_source_up",
		"1 while the source of pods, namespaces and policies answers; else 0, and the last state stays in force.")
	c.dropLog = desc("netpold_drop_log_up",
		"1 while the kernel's log of denied packets is read; else 0: drop lines are missing, enforcement "+
			"is unaffected.")
	c.build = desc("netpold_build_info", "1, by version of netpold and of Go.", "version", "goversion")
	return c
}

// Describe sends the descriptions of the metrics.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect sends the metrics as of now.
func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	r := c.loop.Report()
	gauge := func(d *prometheus.Desc, v int, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	gauge(c.policies, r.Policies.InEffect, "effective")
	gauge(c.policies, r.Policies.Audited, "audited")
	idle := r.Policies.Total - r.Policies.InEffect - r.Policies.Audited
	for kind, n := range r.Policies.Troubled {
		gauge(c.policies, n, kind)
		idle -= n
	}
	gauge(c.policies, idle, "idle")
	for _, d := range policy.Directions() {
		gauge(c.isolated, r.IsolatedPods[d.String()], d.String())
		gauge(c.audited, r.AuditedPods[d.String()], d.String())
	}
	gauge(c.elements, r.Table.Elements)
	gauge(c.build, 1, r.Version, runtime.Version())
	_, ready := c.loop.Ready()
	number := map[bool]int{true: 1}
	gauge(c.ready, number[ready])
	gauge(c.source, number[r.Source.AwaySince == nil])
	if r.DropLog != nil {
		gauge(c.dropLog, number[r.DropLog.OffSince == nil])
	}
	found := make(map[string]bool)
	for _, f := range r.Preflight {
		found[f.Check] = true
	}
	for _, check := range preflight.Checks() {
		gauge(c.preflight, number[found[check]], check)
	}
	c.collectDenied(ch)
}

// collectDenied sends the totals of denied packets, as last read.
func (c *stateCollector) collectDenied(ch chan<- prometheus.Metric) {
	unknown := make(map[policy.Direction]uint64)
	count := func(d *prometheus.Desc, packets uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(packets), labels...)
	}
	totals, rules := c.loop.lastDenied()
	for by, packets := range totals {
		switch r, ok := rules[by.Rule]; {
		case ok:
			count(c.rules, packets, string(r.Tier), r.Policy, r.Direction.String(), strconv.Itoa(r.Index+1))
		case by.Rule != "": // no longer known, and deleted soon
		case by.Namespace == "":
			unknown[by.Direction] = packets
		case by.Audit:
			count(c.audits, packets, by.Direction.String(), by.Namespace, by.Tier)
		default:
			count(c.denied, packets, by.Direction.String(), by.Namespace, by.Tier)
		}
	}
	for _, d := range policy.Directions() {
		ch <- prometheus.MustNewConstMetric(c.unknown, prometheus.CounterValue, float64(unknown[d]), d.String())
	}
	at := 0.0
	if asOf := c.loop.denied.AsOf(); !asOf.IsZero() {
		at = float64(asOf.UnixNano()) / 1e9
	}
	ch <- prometheus.MustNewConstMetric(c.deniedAsOf, prometheus.GaugeValue, at)
}

// Denied returns how many packets the table has denied since the loop began, as the kernel has counted them by now. It
// waits for no transaction. On an error, the totals are those of the last read.
func (l *Loop) Denied(ctx context.Context) (map[denied.By]uint64, error) {
	err := l.denied.Read(ctx, l.config.Reads)
	totals, _ := l.lastDenied()
	return totals, err
}

// lastDenied returns the last totals, without namespaces and rules that are gone, and the denying rules of
// ClusterNetworkPolicies by their chains.
func (l *Loop) lastDenied() (map[denied.By]uint64, map[string]policy.ClusterRuleRef) {
	l.mu.Lock()
	defer l.mu.Unlock()
	rules := l.state.DenyingRules()
	return l.denied.Totals(func(by denied.By) bool {
		_, known := rules[by.Rule]
		return known || by.Rule == "" && (by.Namespace == "" || l.state.HasNamespace(by.Namespace))
	}), rules
}
