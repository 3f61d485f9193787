// SPDX-License-Identifier: Apache-2.0

package runtime

import "github.com/prometheus/client_golang/prometheus"

// metrics are the plugin's metrics.
type metrics struct {
	seconds     prometheus.Histogram
	results     *prometheus.CounterVec
	unprotected prometheus.Counter
	connected   prometheus.Gauge
}

func newMetrics() *metrics {
	m := &metrics{
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "netpold_gate_seconds",
			Help:    "Time that a new pod waited at the gate until its policies were in force.",
			Buckets: []float64{1e-3, 2e-3, 5e-3, 10e-3, 20e-3, 50e-3, 0.1, 0.2, 0.5, 1, 2},
		}),
		results: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "netpold_gate_results_total",
			Help: "New pods at the gate, by result: admitted, labels (admitted before the API reported the " +
				"pod), refused, " +
				"open (started unprotected after the time limit), unknown (the runtime reported no address).",
		}, []string{"result"}),
		unprotected: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "netpold_unprotected_pods_total",
			Help: "Pods of this node that ran before their policies were in force, as far as netpold knows.",
		}),
		connected: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "netpold_gate_connected",
			Help: "1 while connected to the container runtime over NRI; else 0: new pods are " +
				"unprotected for about a second.",
		}),
	}
	for _, result := range []string{"admitted", "labels", "refused", "open", "unknown"} {
		m.results.WithLabelValues(result)
	}
	return m
}

// Collectors returns the plugin's metrics, to be registered; none for a nil plugin.
func (p *Plugin) Collectors() []prometheus.Collector {
	if p == nil {
		return nil
	}
	m := p.metrics
	return []prometheus.Collector{m.seconds, m.results, m.unprotected, m.connected}
}

func (m *metrics) result(name string) { m.results.WithLabelValues(name).Inc() }
