// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// nodeServer is an API server with one node, which refuses the first patches and keeps later ones.
type nodeServer struct {
	mu      sync.Mutex
	taints  []corev1.Taint
	asked   []string
	refused int // how many patches it is still to refuse
}

func (s *nodeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, r.Method+" "+r.URL.Path)
	body, _ := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "application/json")
	if r.Method == http.MethodPatch {
		var patch []struct {
			Op, Path string
			Value    []corev1.Taint
		}
		err := json.Unmarshal(body, &patch)
		switch {
		case err != nil || len(patch) != 2 || patch[0].Op != "test" || patch[1].Op != "replace" ||
			patch[1].Path != "/spec/taints":
			s.asked = append(s.asked, "bad patch "+string(body))
		case s.refused > 0 || !slices.Equal(patch[0].Value, s.taints):
			s.refused--
			w.WriteHeader(http.StatusUnprocessableEntity)
			_ = json.NewEncoder(w).Encode(metav1.Status{
				TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Reason: "Invalid", Code: 422})
			return
		default:
			s.taints = patch[1].Value
		}
	}
	_ = json.NewEncoder(w).Encode(corev1.Node{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: "worker-1"}, Spec: corev1.NodeSpec{Taints: s.taints}})
}

// TestTaint: the taint goes once netpold is ready and not before, others stay, and a refused patch is tried again.
func TestTaint(t *testing.T) {
	const get, patch = "GET /api/v1/nodes/worker-1", "PATCH /api/v1/nodes/worker-1"
	other := corev1.Taint{Key: "gpu", Value: "yes", Effect: corev1.TaintEffectNoSchedule}
	ours := corev1.Taint{Key: "netpold.io/not-ready", Effect: corev1.TaintEffectNoSchedule}
	evicts := corev1.Taint{Key: "netpold.io/not-ready", Value: "x", Effect: corev1.TaintEffectNoExecute}
	for name, tc := range map[string]struct {
		taints, left []corev1.Taint
		refused      int
		asked        []string
		said         string
	}{
		"one": {taints: []corev1.Taint{other, ours, evicts}, left: []corev1.Taint{other},
			asked: []string{get, patch}, said: "removed the taint"},
		"none": {taints: []corev1.Taint{other}, left: []corev1.Taint{other},
			asked: []string{get}, said: "has no such taint"},
		"refused": {taints: []corev1.Taint{ours}, refused: 1,
			asked: []string{get, patch, get, patch}, said: "cannot remove the taint"},
	} {
		t.Run(name, func(t *testing.T) {
			s := &nodeServer{taints: tc.taints, refused: tc.refused}
			server := httptest.NewServer(s)
			t.Cleanup(server.Close)
			var said strings.Builder
			questions := 0
			ready := func() bool {
				s.mu.Lock()
				defer s.mu.Unlock()
				if questions++; len(s.asked) > 0 {
					t.Error("the API server was asked before netpold was ready")
				}
				return questions == 3
			}
			log := slog.New(slog.NewTextHandler(&said, nil))
			taint := &Taint{Client: clientOf(t, server.URL), Node: "worker-1", Key: ours.Key, Ready: ready, Log: log}
			taint.Run(t.Context())
			s.mu.Lock()
			defer s.mu.Unlock()
			if !slices.Equal(s.taints, tc.left) || !slices.Equal(s.asked, tc.asked) ||
				!strings.Contains(said.String(), tc.said) {
				t.Errorf("left %v after %q, said:\n%s", s.taints, s.asked, &said)
			}
		})
	}
}
