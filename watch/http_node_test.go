// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
)

// TestNodeHandler: private endpoints answer only on the node.
func TestNodeHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, registry := newTestLoop(t, kernelFunc(nil))
		l.Update(func(o Objects) { o.SetNamespace("shop", nil) })
		l.Synced()
		synctest.Wait()
		const flow = "/explain?src=1.2.3.4&dst=1.2.3.4:80"
		for path, want := range map[string]int{
			flow: http.StatusOK, "/explain?src=no&dst=1.2.3.4:80": http.StatusBadRequest,
			"/explain": http.StatusBadRequest, "/drops": http.StatusOK, "/drops/top": http.StatusOK,
			"/readyz":                http.StatusOK,
			"/policy?name=shop/deny": http.StatusOK, "/policy?name=deny": http.StatusOK,
			"/policy":            http.StatusBadRequest,
			"/policy?name=/deny": http.StatusBadRequest, "/policy?name=shop/": http.StatusBadRequest,
			"/drops?namespace=shop": http.StatusOK, "/drops/top?namespace=elsewhere": http.StatusOK,
			"/drops?namespace=shpo": http.StatusBadRequest, "/drops/top?namespace=shpo": http.StatusBadRequest,
		} {
			w := httptest.NewRecorder()
			NodeHandler(l, registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != want {
				t.Errorf("%s: status %d, want %d", path, w.Code, want)
			}
		}
		for _, path := range []string{"/drops", "/drops/top", "/policy?name=shop/deny", flow} {
			w := httptest.NewRecorder()
			Handler(l, registry).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
			if w.Code != http.StatusNotFound {
				t.Errorf("%s for everybody: status %d", path, w.Code)
			}
		}
	})
}

// TestExplainVerify: what the kernel lacks is reported.
func TestExplainVerify(t *testing.T) {
	l, _ := newTestLoop(t, kernelFunc(nil))
	if _, err := l.Explain(t.Context(), "1.2.3.4", "ns/a:80", true); err == nil {
		t.Error("an answer before anything is known")
	}
	setPodAt(l, "a", "10.0.0.1")
	denyAll(l, "deny")
	l.Synced()
	if err := l.commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	e, err := l.Explain(t.Context(), "1.2.3.4", "ns/a:80", true)
	if err != nil {
		t.Fatal(err)
	}
	if e.Allowed || len(e.Flows) != 1 || e.Flows[0].Nodes[0].Verdict != "drop" {
		t.Fatalf("got %+v", e)
	}
	if first := e.Flows[0].Nodes[0].Rules[0]; !first.Missing || first.Chain != "forward" { // the kernel is a fake
		t.Errorf("got %+v", first)
	}
}
