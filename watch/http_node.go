// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netpold/netpold/translate/policy"
)

// NodeHandler serves, besides what [Handler] does, what is not everybody's business:
//
//	/drops      the newest lines about drops, see [drops.Log.ServeLines]
//	/drops/top  who was blocked most, see [drops.Log.ServeTop]
//	/policy     the [PolicyReport] of ?name=, as JSON
//	/flows      who has connected to whom, see [flows.Log.ServeFlows]
//	/explain    the [explain.Answer] of the flows from ?src= to ?dst=, as JSON; with ?verify=true, also what the
//	            kernel holds
func NodeHandler(l *Loop, metrics prometheus.Gatherer) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", Handler(l, metrics))
	mux.HandleFunc("GET /drops", l.ofNamespace(l.drops.ServeLines))
	mux.HandleFunc("GET /drops/top", l.ofNamespace(l.drops.ServeTop))
	mux.HandleFunc("GET /policy", l.servePolicy)
	mux.HandleFunc("GET /flows", l.ofNamespace(l.flows.ServeFlows))
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

// ofNamespace wraps serve. It rejects an unknown namespace with a name close to a known one as a typo.
func (l *Loop) ofNamespace(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Query().Get("namespace")
		if meant := l.meant(name); meant != "" {
			http.Error(w, "no namespace "+name+meant, http.StatusBadRequest)
			return
		}
		serve(w, r)
	}
}

// meant suggests a known namespace for an unknown name, see [policy.DidYouMean].
func (l *Loop) meant(name string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name == "" || l.state.HasNamespace(name) {
		return ""
	}
	var names []string
	for ns := range l.state.Namespaces() {
		names = append(names, ns.Name)
	}
	return policy.DidYouMean(name, names)
}

// answer writes a value as JSON.
func answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the client has gone
}
