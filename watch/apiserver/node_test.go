// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/netpold/netpold/test/harness/sink"
)

// TestNode: one get of the node alone returns its pod CIDRs. If a server does not allow that, netpold goes on without
// them.
func TestNode(t *testing.T) {
	for name, forbidden := range map[string]bool{"allowed": false, "forbidden": true} {
		t.Run(name, func(t *testing.T) {
			asked := make(chan string, 100)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				asked <- r.Method + " " + r.URL.String()
				w.Header().Set("Content-Type", "application/json")
				if forbidden {
					w.WriteHeader(http.StatusForbidden)
					_ = json.NewEncoder(w).Encode(metav1.Status{
						TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
						Status:   metav1.StatusFailure, Reason: metav1.StatusReasonForbidden,
						Code:    http.StatusForbidden,
						Message: "nodes is forbidden"})
					return
				}
				_ = json.NewEncoder(w).Encode(corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
					ObjectMeta: metav1.ObjectMeta{Name: "worker-1"},
					Spec:       corev1.NodeSpec{PodCIDRs: []string{"10.244.1.0/24", "fd00::/64", "all"}}})
			}))
			defer server.Close()
			client := clientOf(t, server.URL)
			recorder, lines := sink.NewRecorder(), make(sink.Log, 100)
			source := &Source{Client: client, Node: "worker-1", Log: slog.New(slog.NewTextHandler(lines, nil))}
			answered := make(chan struct{}, 100)
			go source.followNode(t.Context(), recorder, func() { answered <- struct{}{} })
			<-answered
			if got := <-asked; got != "GET /api/v1/nodes/worker-1" {
				t.Errorf("asked %s", got)
			}
			if forbidden {
				lines.Expect(t, "cannot read the node's podCIDRs", "orbidden")
				return
			}
			recorder.Next(t, "set node worker-1 [10.244.1.0/24 fd00::/64]")
			lines.Expect(t, `\"all\" is not a range`)
		})
	}
}
