// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Handler answers what kubelet, Prometheus and `netpold status` ask a daemon:
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
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, l.Report())
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(metrics, promhttp.HandlerOpts{}))
	return mux
}

// Ready says whether the source is synced and the kernel holds what follows from it, and in words what is missing. While the source
// is away the last state stays in force: that is ready, and said.
func (l *Loop) Ready() (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := "ok"
	switch {
	case !l.status.Synced:
		text = "not ready: waiting for pods, namespaces and policies from " + l.Source
	case l.status.LastError != nil:
		text = "not ready: the last transaction failed: " + l.status.LastError.Error()
	case l.status.Transactions == 0:
		text = "not ready: the first transaction is on its way"
	case l.doubts.open():
		text = "not ready: " + l.doubts.why
	}
	ready := text == "ok"
	if !l.awaySince.IsZero() {
		text += fmt.Sprintf("; %s away since %s, the last state stays in force: %s",
			l.Source, l.awaySince.UTC().Format(time.RFC3339), l.awayError)
	}
	return text, ready
}
