// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
)

// TestAnswersInFlight: while a transaction is in flight, however long, everybody gets answers, also about what was
// denied.
func TestAnswersInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := make(gate)
		k := kernelFunc(g.apply)
		l, registry := newTestLoop(t, k)
		handler := NodeHandler(l, registry)
		denyAll(l, "deny")
		setPodAt(l, "a", "10.0.0.1")
		l.Synced()
		g.next()
		g.open()
		k.denied = 5
		want := func(total string) {
			t.Helper()
			for path, want := range map[string]string{
				"/metrics": `netpold_dropped_packets_total{direction="ingress",namespace="ns",tier="NetworkPolicy"} ` +
					total + "\n",
				"/status": `"version"`, "/readyz": "", "/livez": "ok",
				"/explain?src=10.9.9.9&dst=ns/a:80&verify=true": "denied", "/drops": "", "/drops/top": "since",
			} {
				w := httptest.NewRecorder()
				// If it waits, the test ends here, because everybody is blocked.
				handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				if !strings.Contains(w.Body.String(), want) {
					t.Errorf("%s: %d %s", path, w.Code, w.Body)
				}
			}
		}
		setPodAt(l, "b", "10.0.0.2")
		g.next()
		want("5")
		k.denied = 7
		want("7")
		g.open()
		l.Drifted("nft")
		g.next()
		want("7")
		k.denied = 0
		g.open()
		want("7")
		k.denied = 2
		want("9")
	})
}
