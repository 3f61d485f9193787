// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/google/go-cmp/cmp"

	"github.com/netpold/netpold/translate"
)

// recorder is a sink that tells a test what was set and deleted, as one text for each update.
type recorder struct {
	mu      sync.Mutex
	updates chan string
	synced  chan struct{}
	away    chan error
	lines   []string // of the update in progress
}

func newRecorder() *recorder {
	return &recorder{updates: make(chan string, 1000), synced: make(chan struct{}), away: make(chan error, 1000)}
}

func (r *recorder) Update(edit func(Objects)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = nil
	edit(r)
	slices.Sort(r.lines)
	r.updates <- strings.Join(r.lines, "\n")
}

func (r *recorder) Synced() { close(r.synced) }

func (r *recorder) Away(err error) { r.away <- err }

func (r *recorder) note(format string, args ...any) {
	r.lines = append(r.lines, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (r *recorder) SetPod(p translate.Pod) {
	r.note("set pod %s %s %v", p.NamespacedName, labelText(p.Labels), p.IPs)
}
func (r *recorder) DeletePod(name types.NamespacedName) { r.note("delete pod %s", name) }
func (r *recorder) SetNamespace(name string, labels map[string]string) {
	r.note("set namespace %s %s", name, labelText(labels))
}
func (r *recorder) DeleteNamespace(name string) { r.note("delete namespace %s", name) }
func (r *recorder) SetPolicy(np *networkingv1.NetworkPolicy) {
	r.note("set policy %s/%s selects %s", np.Namespace, np.Name, labelText(np.Spec.PodSelector.MatchLabels))
}
func (r *recorder) DeletePolicy(name types.NamespacedName) { r.note("delete policy %s", name) }

// labelText returns labels as "a=b,c=d", without the one that every namespace has.
func labelText(labels map[string]string) string {
	var text []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if key != "kubernetes.io/metadata.name" {
			text = append(text, key+"="+labels[key])
		}
	}
	return strings.Join(text, ",")
}

// next fails the test unless the next update is as wanted.
func (r *recorder) next(t *testing.T, want ...string) {
	t.Helper()
	select {
	case got := <-r.updates:
		if diff := cmp.Diff(want, strings.Split(got, "\n")); diff != "" {
			t.Fatalf("update (-want +got):\n%s", diff)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("no update, want %q", want)
	}
}
