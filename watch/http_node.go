// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
)

// NodeHandler answers, besides what [Handler] does, what is not everybody's business:
//
//	/drops      the newest lines about drops, each a [DropLine] as JSON; ?namespace= keeps those of a namespace, ?follow=true goes on
//	/drops/top  the [TopDrops], as JSON; ?namespace= as above
//	/explain    the [Explanation] of the flows from ?src= to ?dst=, as JSON; with ?verify=true, also what the kernel holds
func NodeHandler(l *Loop, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", Handler(l, metrics))
	mux.HandleFunc("GET /drops", l.serveDrops)
	mux.HandleFunc("GET /drops/top", func(w http.ResponseWriter, r *http.Request) {
		namespace := r.URL.Query().Get("namespace")
		answer(w, l.history.top(func(p DropPair) bool { return inNamespace(namespace, p.Src, p.Dst) }))
	})
	mux.HandleFunc("GET /explain", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		e, err := l.Explain(r.Context(), q.Get("src"), q.Get("dst"), q.Get("verify") == "true")
		switch {
		case errors.As(err, new(QuestionError)):
			http.Error(w, err.Error(), http.StatusBadRequest)
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		default:
			answer(w, e)
		}
	})
	return mux
}

// answer writes a value as JSON.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the asker has gone
}

// DropLine is a line of what /drops answers: a record, or how many there were of which no record is left.
type DropLine struct {
	*DropRecord
	Missed uint64 `json:"missed,omitempty"`
}

// serveDrops writes lines, and goes on if that is asked for until the asker goes. One who reads slower than lines come misses some; nobody
// waits for him.
func (l *Loop) serveDrops(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	namespace, follow := query.Get("namespace"), query.Get("follow") == "true"
	w.Header().Set("Content-Type", "application/x-ndjson")
	out := json.NewEncoder(w)
	begun := false
	for next := uint64(0); ; begun = true {
		lines, end, missed, more := l.history.from(next)
		next = end
		if missed > 0 && begun && out.Encode(DropLine{Missed: missed}) != nil {
			return
		}
		for i := range lines {
			if inNamespace(namespace, lines[i].Src, lines[i].Dst) && out.Encode(DropLine{DropRecord: &lines[i]}) != nil {
				return
			}
		}
		if !follow || http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-more:
		}
	}
}

// inNamespace says whether one of the ends is a pod of a namespace; "" is every one.
func inNamespace(namespace string, ends ...DropPeer) bool {
	if namespace == "" {
		return true
	}
	for _, end := range ends {
		if end.Namespace == namespace {
			return true
		}
	}
	return false
}
