// SPDX-License-Identifier: Apache-2.0

package flows

import (
	"context"
	"net/http"
	"slices"
	"time"

	"github.com/netpold/netpold/translate/flows"
)

// askRead bounds the read of the kernel for an answer.
const askRead = 2 * time.Second

// ServeFlows serves the flows, each as JSON, the latest seen last; ?namespace= keeps those from or to pods of a
// namespace, and ?since= those seen within a time such as 10m. ?follow=true continues until the client goes, with each
// flow that is seen again.
func (l *Log) ServeFlows(w http.ResponseWriter, r *http.Request) {
	if !l.On() {
		http.Error(w, "this netpold does not observe flows: start it with --observe", http.StatusNotFound)
		return
	}
	query := r.URL.Query()
	namespace := query.Get("namespace")
	var since time.Time
	if text := query.Get("since"); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			http.Error(w, "since: "+err.Error(), http.StatusBadRequest)
			return
		}
		since = time.Now().Add(-d)
	}
	ctx, cancel := context.WithTimeout(r.Context(), askRead)
	err := l.Read(ctx)
	cancel()
	if err != nil {
		http.Error(w, "read the kernel's flows: "+err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-ndjson")
	for version := uint64(0); ; {
		all, now, more := l.after(version)
		all = slices.DeleteFunc(all, func(f flows.Flow) bool {
			return f.Last.Before(since) ||
				namespace != "" && f.From.Namespace != namespace && f.To.Namespace != namespace
		})
		version = now
		if err := flows.Write(w, all...); err != nil { // the client has gone
			return
		}
		if query.Get("follow") != "true" {
			return
		}
		if err := http.NewResponseController(w).Flush(); err != nil {
			return
		}
		select {
		case <-r.Context().Done():
			return
		case <-more:
		}
	}
}

// after returns the flows that changed after a version, the latest seen last, the current version, and a channel that
// is closed at the next one.
func (l *Log) after(version uint64) (all []flows.Flow, now uint64, more <-chan struct{}) {
	l.mu.Lock()
	for _, e := range l.history.entries {
		all = append(all, e.after(version)...)
	}
	now, more = l.history.version, l.history.changed
	l.mu.Unlock()
	for i := range all {
		all[i].Node = l.config.Node
	}
	slices.SortFunc(all, func(a, b flows.Flow) int { return a.Last.Compare(b.Last) })
	return all, now, more
}
