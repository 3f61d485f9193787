// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/netpold/netpold/nft"
)

// deafKernel fails all reads.
type deafKernel struct{ *fakeKernel }

func (deafKernel) Elements(context.Context, string, string, nft.SetType) ([]nft.Counted, error) {
	return nil, errors.New("it is deaf")
}

// TestScrapesFloodNoLog: endless scrapes do not fill the log.
func TestScrapesFloodNoLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newIdleLoop(deafKernel{kernelFunc(func(context.Context, *nft.Transaction) error { return nil })}, "node")
		var logged bytes.Buffer
		l.config.Log = slog.New(slog.NewTextHandler(&logged, nil))
		ctx, cancel := context.WithCancel(t.Context())
		go l.Run(ctx)
		denyAll(l, "deny")
		setPodAt(l, "a", "10.0.0.1")
		l.Synced()
		synctest.Wait()
		handler := Handler(l, prometheus.NewRegistry())
		for range 100 {
			handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/metrics", nil))
		}
		cancel()
		synctest.Wait()
		if n := strings.Count(logged.String(), "reading drop counters failed"); n != 1 {
			t.Errorf("logged %d times:\n%.300s", n, &logged)
		}
	})
}
