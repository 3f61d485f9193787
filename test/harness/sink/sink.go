// SPDX-License-Identifier: Apache-2.0

// Package sink helps to test sources: a [Recorder], which a source feeds, and a [Log] whose lines a test awaits.
package sink

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/google/go-cmp/cmp"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// Recorder is a sink that records what was set and deleted, as one text for each update.
type Recorder struct {
	Updates chan string
	Done    chan struct{} // closed when the source is synced
	Gone    chan error    // the arguments of Away

	mu    sync.Mutex
	lines []string                                     // of the update in progress
	has   map[string]map[types.NamespacedName]struct{} // names, by kind
}

// NewRecorder returns a recorder that has no objects.
func NewRecorder() *Recorder {
	return &Recorder{Updates: make(chan string, 1000), Done: make(chan struct{}), Gone: make(chan error, 1000),
		has: map[string]map[types.NamespacedName]struct{}{"pod": {}, "namespace": {}, "policy": {},
			"cluster policy": {}, "node peer": {}}}
}

// Update implements [watch.Sink].
func (r *Recorder) Update(edit func(watch.Objects)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = nil
	edit(objects{r})
	if len(r.lines) == 0 {
		return
	}
	slices.Sort(r.lines)
	r.Updates <- strings.Join(r.lines, "\n")
}

// Synced implements [watch.Sink].
func (r *Recorder) Synced() { close(r.Done) }

// Away implements [watch.Sink].
func (r *Recorder) Away(err error) { r.Gone <- err }

// objects are the objects of an update, for the recorder.
type objects struct{ *Recorder }

func (r objects) note(format string, args ...any) {
	r.lines = append(r.lines, strings.TrimSpace(fmt.Sprintf(format, args...)))
}

func (r objects) SetPod(p policy.Pod) {
	r.set("pod", p.NamespacedName, "%s %v", Labels(p.Labels), p.IPs)
}
func (r objects) SetNamespace(name string, labels map[string]string) {
	r.set("namespace", types.NamespacedName{Name: name}, "%s", Labels(labels))
}
func (r objects) SetNamespaceMode(name string, annotations map[string]string) {
	if mode := policy.ModeOf(annotations); mode != nil {
		r.note("set mode of namespace %s %s", name, Labels(mode))
	}
}
func (r objects) SetPolicy(np *networkingv1.NetworkPolicy) {
	r.set("policy", types.NamespacedName{Namespace: np.Namespace, Name: np.Name}, "selects %s %s",
		Labels(np.Spec.PodSelector.MatchLabels), Labels(np.Annotations))
}
func (r objects) DeletePod(name types.NamespacedName) { r.delete("pod", name) }
func (r objects) DeleteNamespace(name string) {
	r.delete("namespace", types.NamespacedName{Name: name})
}
func (r objects) DeletePolicy(name types.NamespacedName) { r.delete("policy", name) }
func (r objects) SetNode(name string, podCIDRs []netip.Prefix) {
	r.note("set node %s %v", name, podCIDRs)
}
func (r objects) SetClusterPolicy(p policy.ClusterPolicy) {
	r.set("cluster policy", types.NamespacedName{Name: p.Name}, "%s %d %v", p.Spec.Tier, p.Spec.Priority, p.Unread)
}
func (r objects) DeleteClusterPolicy(name string) {
	r.delete("cluster policy", types.NamespacedName{Name: name})
}
func (r objects) SetNodePeer(n policy.NodePeer) {
	r.set("node peer", types.NamespacedName{Name: n.Name}, "%s %v", Labels(n.Labels), n.Addresses)
}
func (r objects) DeleteNodePeer(name string) { r.delete("node peer", types.NamespacedName{Name: name}) }

func (r objects) ClusterPolicies() iter.Seq[types.NamespacedName] {
	return maps.Keys(r.has["cluster policy"])
}
func (r objects) NodePeers() iter.Seq[types.NamespacedName]  { return maps.Keys(r.has["node peer"]) }
func (r objects) Pods() iter.Seq[types.NamespacedName]       { return maps.Keys(r.has["pod"]) }
func (r objects) Namespaces() iter.Seq[types.NamespacedName] { return maps.Keys(r.has["namespace"]) }
func (r objects) Policies() iter.Seq[types.NamespacedName]   { return maps.Keys(r.has["policy"]) }

func (r objects) set(kind string, name types.NamespacedName, format string, args ...any) {
	r.has[kind][name] = struct{}{}
	r.note("set %s %s %s", kind, strings.TrimPrefix(name.String(), "/"), fmt.Sprintf(format, args...))
}

func (r objects) delete(kind string, name types.NamespacedName) {
	delete(r.has[kind], name)
	r.note("delete %s %s", kind, strings.TrimPrefix(name.String(), "/"))
}

// Labels formats labels as "a=b,c=d", without the one that every namespace has.
func Labels(labels map[string]string) string {
	var text []string
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if key != "kubernetes.io/metadata.name" {
			text = append(text, key+"="+labels[key])
		}
	}
	return strings.Join(text, ",")
}

// Next fails the test unless the next update is the wanted one.
func (r *Recorder) Next(t *testing.T, want ...string) {
	t.Helper()
	select {
	case got := <-r.Updates:
		if diff := cmp.Diff(want, strings.Split(got, "\n")); diff != "" {
			t.Fatalf("update (-want +got):\n%s", diff)
		}
	case <-time.After(10 * time.Second):
		t.Fatalf("no update, want %q", want)
	}
}

// Log is a log for tests to read.
type Log chan string

// Write implements [io.Writer].
func (l Log) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}

// Expect waits for a line that contains all parts.
func (l Log) Expect(t *testing.T, parts ...string) {
	t.Helper()
	var lines []string
	for timeout := time.After(10 * time.Second); ; {
		select {
		case line := <-l:
			if !slices.ContainsFunc(parts, func(part string) bool { return !strings.Contains(line, part) }) {
				return
			}
			lines = append(lines, line)
		case <-timeout:
			t.Fatalf("no line with %q in the log:\n%s", parts, strings.Join(lines, ""))
		}
	}
}
