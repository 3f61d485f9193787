// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/preflight"
)

// Reasons of a recovery, which replaces the whole table; values of the label "reason".
const (
	ReasonTransaction = "transaction" // a transaction failed
	ReasonDrift       = "drift"       // somebody else changed the table
)

// Metrics are what the loop measures. No label has values that a user of the cluster chooses.
type Metrics struct {
	transactions  *prometheus.CounterVec
	duration      prometheus.Histogram
	eventToKernel prometheus.Histogram
	recoveries    *prometheus.CounterVec
	lastCommit    prometheus.Gauge
}

// NewMetrics registers the metrics of a loop with reg.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
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
			Help:    "Time from an event's arrival to the commit of the transaction that has it.",
			Buckets: latencyBuckets(),
		}),
		recoveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "netpold_recoveries_total",
			Help: "Replacements of the whole table after the start, by reason: transaction (one failed) or drift (somebody else changed the table).",
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
	for _, c := range []prometheus.Collector{
		m.transactions, m.duration, m.eventToKernel, m.recoveries, m.lastCommit,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// latencyBuckets are the upper bounds of the histograms, in seconds. They are the same for all, so that the quantiles of one can be held
// against those of another, which are a factor of 2.5 off at most.
func latencyBuckets() []float64 {
	return []float64{50e-6, 100e-6, 200e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1, 2, 5, 10}
}

// committed counts a committed transaction: when, how long the kernel took, and how long after its oldest event.
func (m *Metrics) committed(at time.Time, elapsed time.Duration) {
	m.transactions.WithLabelValues("committed").Inc()
	m.duration.Observe(elapsed.Seconds())
	m.lastCommit.Set(float64(at.UnixNano()) / 1e9)
}

func (m *Metrics) inForce(latency time.Duration) { m.eventToKernel.Observe(latency.Seconds()) }

func (m *Metrics) failed() { m.transactions.WithLabelValues("failed").Inc() }

func (m *Metrics) recovered(reason string) { m.recoveries.WithLabelValues(reason).Inc() }

// stateCollector reads the loop's state when it is scraped.
type stateCollector struct {
	loop       *Loop
	policies   *prometheus.Desc
	isolated   *prometheus.Desc
	elements   *prometheus.Desc
	preflight  *prometheus.Desc
	denied     *prometheus.Desc
	deniedAsOf *prometheus.Desc
	ready      *prometheus.Desc
	source     *prometheus.Desc
	dropLog    *prometheus.Desc
	build      *prometheus.Desc
}

// NewStateCollector returns the collector of what the loop's table enforces.
func NewStateCollector(l *Loop) prometheus.Collector {
	return &stateCollector{
		loop: l,
		policies: prometheus.NewDesc("netpold_policies",
			"NetworkPolicies of the cluster, by state: effective (isolates a pod of this node), rejected (does not compile in full), "+
				"over-limit (asks for more than a limit), quarantined (the kernel refused what follows from it), or idle.",
			[]string{"state"}, nil),
		isolated: prometheus.NewDesc("netpold_isolated_pods",
			"Pods of this node that a policy isolates, by direction.", []string{"direction"}, nil),
		elements: prometheus.NewDesc("netpold_set_elements",
			"Elements of all sets and maps of the table.", nil, nil),
		preflight: prometheus.NewDesc("netpold_preflight_findings",
			"What keeps traffic from the policies on this node, by check: 1 where something was found.", []string{"check"}, nil),
		denied: prometheus.NewDesc("netpold_dropped_packets_total",
			"Packets denied by the policies of this node's pods, every one, by direction and by namespace of the isolated pod.",
			[]string{"direction", "namespace"}, nil),
		deniedAsOf: prometheus.NewDesc("netpold_dropped_packets_timestamp_seconds",
			"Unix time of which netpold_dropped_packets_total is; 0 before it was read.", nil, nil),
		ready: prometheus.NewDesc("netpold_ready",
			"1 when the source is synced and the kernel holds what follows from it, as /readyz says; else 0.", nil, nil),
		source: prometheus.NewDesc("netpold_source_up",
			"1 while the source of pods, namespaces and policies answers, else 0: then the last state stays in force.", nil, nil),
		dropLog: prometheus.NewDesc("netpold_drop_log_up",
			"1 while the kernel's log of denied packets is read, else 0: then drop lines are missing, and policies are enforced all the same.",
			nil, nil),
		build: prometheus.NewDesc("netpold_build_info",
			"1, by the version of netpold and of Go.", []string{"version", "goversion"}, nil),
	}
}

// Describe sends the descriptions of the metrics.
func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.policies, c.isolated, c.elements, c.preflight, c.denied, c.deniedAsOf, c.ready, c.source, c.dropLog, c.build} {
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
	idle := r.Policies.Total - r.Policies.InEffect
	for kind, n := range r.Policies.Troubled {
		gauge(c.policies, n, kind)
		idle -= n
	}
	gauge(c.policies, idle, "idle")
	for _, d := range policy.Directions() {
		gauge(c.isolated, r.IsolatedPods[d.String()], d.String())
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

// collectDenied sends the totals of denied packets, as they were last read.
func (c *stateCollector) collectDenied(ch chan<- prometheus.Metric) {
	for d, namespaces := range c.loop.lastDenied() {
		for ns, packets := range namespaces {
			ch <- prometheus.MustNewConstMetric(c.denied, prometheus.CounterValue, float64(packets), d.String(), ns)
		}
	}
	at := 0.0
	if asOf := c.loop.denied.time(); !asOf.IsZero() {
		at = float64(asOf.UnixNano()) / 1e9
	}
	ch <- prometheus.MustNewConstMetric(c.deniedAsOf, prometheus.GaugeValue, at)
}
