// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/time/rate"
)

// Handler serves what kubelet, Prometheus and `netpold status` ask a daemon for:
//
//	/livez    200 as long as the loop's memory can be had; a commit that takes long is no reason to be killed
//	/readyz   200 when the source is synced and the kernel surely holds what follows from it, else 503 and why
//	/metrics  Prometheus
//	/status   the [Report], as JSON
func Handler(l *Loop, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		l.Status() // takes the loop's lock: a deadlock is a probe without an answer
		_, _ = fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		text, ready := l.Ready()
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintln(w, text)
	})
	mux.HandleFunc("GET /status", l.serveStatus)
	mux.Handle("GET /metrics", l.metricsHandler(metrics))
	return mux
}

// readTimeout bounds reads from the kernel for answers that can do without them.
const readTimeout = time.Second

// serveStatus answers with the report.
func (l *Loop) serveStatus(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
	defer cancel()
	report := l.Report()
	report.Generation, _ = l.config.Reads.Generation(ctx) // 0 if it cannot be read
	answer(w, report)
}

// metricsHandler reads the drop counters from the kernel, for as long as the client waits, and serves these or the last
// ones.
func (l *Loop) metricsHandler(metrics prometheus.Gatherer) http.Handler {
	gathered := promhttp.HandlerFor(metrics, promhttp.HandlerOpts{})
	seldom := rate.Sometimes{First: 1, Interval: time.Minute} // anybody may ask, as often as they like
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), readTimeout)
		defer cancel()
		if _, err := l.Denied(ctx); err != nil && r.Context().Err() == nil {
			seldom.Do(func() {
				l.config.Log.Warn("reading drop counters failed; reporting last values", "err", err)
			})
		}
		gathered.ServeHTTP(w, r)
	})
}

// Ready says whether the source is synced and the kernel holds the resulting table, with a text that says what is
// missing. While the source is away, the last state stays in force: that is ready, and the text says so.
func (l *Loop) Ready() (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := "ok"
	switch {
	case !l.status.Synced:
		text = "not ready: waiting for pods, namespaces and policies from " + l.config.Source
	case l.status.LastError != nil:
		text = "not ready: the last transaction failed: " + l.status.LastError.Error()
	case l.status.Transactions == 0:
		text = "not ready: the first transaction is in progress"
	case l.doubts.open():
		text = "not ready: " + l.doubts.why
	}
	ready := text == "ok"
	if !l.awaySince.IsZero() {
		text += fmt.Sprintf("; %s away since %s, the last state stays in force: %s",
			l.config.Source, l.awaySince.UTC().Format(time.RFC3339), l.awayError)
	}
	return text, ready
}
