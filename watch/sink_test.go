// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"fmt"
	"iter"
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
	lines   []string                                     // of the update in progress
	has     map[string]map[types.NamespacedName]struct{} // names, by kind
}

func newRecorder() *recorder {
	return &recorder{updates: make(chan string, 1000), synced: make(chan struct{}), away: make(chan error, 1000),
		has: map[string]map[types.NamespacedName]struct{}{"pod": {}, "namespace": {}, "policy": {}}}
}

func (r *recorder) Update(edit func(Objects)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = nil
	edit(r)
	if len(r.lines) == 0 {
		return
	}
	slices.Sort(r.lines)
	r.updates <- strings.Join(r.lines, "\n")
}

func (r *recorder) Synced() { close(r.synced) }

func (r *recorder) Away(err error) { r.away <- err }

func (r *recorder) note(format string, args ...any) {
	r.lines = append(r.lines, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (r *recorder) SetPod(p translate.Pod) {
	r.set("pod", p.NamespacedName, "%s %v", labelText(p.Labels), p.IPs)
}
func (r *recorder) SetNamespace(name string, labels map[string]string) {
	r.set("namespace", types.NamespacedName{Name: name}, "%s", labelText(labels))
}
func (r *recorder) SetPolicy(np *networkingv1.NetworkPolicy) {
	r.set("policy", types.NamespacedName{Namespace: np.Namespace, Name: np.Name}, "selects %s", labelText(np.Spec.PodSelector.MatchLabels))
}
func (r *recorder) DeletePod(name types.NamespacedName) { r.delete("pod", name) }
func (r *recorder) DeleteNamespace(name string) {
	r.delete("namespace", types.NamespacedName{Name: name})
}
func (r *recorder) DeletePolicy(name types.NamespacedName) { r.delete("policy", name) }

func (r *recorder) Pods() iter.Seq[types.NamespacedName]       { return maps.Keys(r.has["pod"]) }
func (r *recorder) Namespaces() iter.Seq[types.NamespacedName] { return maps.Keys(r.has["namespace"]) }
func (r *recorder) Policies() iter.Seq[types.NamespacedName]   { return maps.Keys(r.has["policy"]) }

func (r *recorder) set(kind string, name types.NamespacedName, format string, args ...any) {
	r.has[kind][name] = struct{}{}
	r.note("set %s %s %s", kind, strings.TrimPrefix(name.String(), "/"), fmt.Sprintf(format, args...))
}

func (r *recorder) delete(kind string, name types.NamespacedName) {
	delete(r.has[kind], name)
	r.note("delete %s %s", kind, strings.TrimPrefix(name.String(), "/"))
}

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
