// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"github.com/netpold/netpold/test/harness/sink"
	"github.com/netpold/netpold/watch"
)

// apiPod is a running pod of namespace shop.
func apiPod(name, ip string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, ResourceVersion: "1"},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}}},
	}
}

// bookmark is the end of the initial events.
func bookmark(version int) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{ResourceVersion: strconv.Itoa(version),
		Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"}}}
}

// server is an API server that answers with the watches of a test.
type server struct {
	watches chan metav1.ListOptions
	streams chan apiwatch.Interface
	pages   map[string]*corev1.PodList // by continue token
}

func newServer() *server {
	return &server{watches: make(chan metav1.ListOptions, 10), streams: make(chan apiwatch.Interface, 10)}
}

// eventsOf reads the events of a watch.
type eventsOf struct{ apiwatch.Interface }

func (w eventsOf) Decode() (apiwatch.EventType, runtime.Object, error) {
	e, more := <-w.ResultChan()
	if !more {
		return "", nil, io.EOF
	}
	return e.Type, e.Object, nil
}

func (w eventsOf) Close() { w.Stop() }

// pods is the server's only resource.
func (s *server) pods() resource {
	return resource{s, "pods", setter(setPod), watch.Objects.DeletePod, watch.Objects.Pods}
}

func (s *server) list(_ context.Context, o metav1.ListOptions, each func(runtime.Object) error) (metav1.ListMeta,
	error) {
	page := s.pages[o.Continue]
	if page == nil {
		return metav1.ListMeta{}, apierrors.NewInternalError(errors.New("no etcd"))
	}
	return page.ListMeta, meta.EachListItem(page, each)
}

func (s *server) watch(ctx context.Context, o metav1.ListOptions) (apiwatch.Decoder, error) {
	if s.pages != nil && o.SendInitialEvents != nil {
		return nil, apierrors.NewInvalid(schema.GroupKind{}, "", nil) // as servers do that cannot stream lists
	}
	s.watches <- o
	select {
	case w := <-s.streams:
		return eventsOf{w}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// startFeed runs a reflector of the resource until the test ends.
func startFeed(t *testing.T, r resource, rec *sink.Recorder) {
	t.Helper()
	f := newFeed(r, rec, slog.New(slog.DiscardHandler))
	f.complete = sync.OnceFunc(rec.Synced)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		f.run(ctx)
		close(done)
	}()
	t.Cleanup(func() { cancel(); <-done })
}

func TestFeedStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec := newServer(), sink.NewRecorder()
		startFeed(t, s.pods(), rec)
		first := apiwatch.NewFake()
		s.streams <- first
		if o := <-s.watches; o.SendInitialEvents == nil || !*o.SendInitialEvents {
			t.Fatalf("no list is streamed: %+v", o)
		}
		first.Add(apiPod("a", "10.0.0.1"))
		rec.Next(t, "set pod shop/a  [10.0.0.1]")
		first.Add(apiPod("b", "10.0.0.2"))
		rec.Next(t, "set pod shop/b  [10.0.0.2]")
		first.Modify(apiPod("b", "10.0.0.3")) // the server may send what changes before the list ends
		rec.Next(t, "set pod shop/b  [10.0.0.3]")
		first.Delete(apiPod("a", "10.0.0.1"))
		rec.Next(t, "delete pod shop/a")
		first.Action(apiwatch.Bookmark, bookmark(7))
		<-rec.Done

		first.Add(apiPod("c", "10.0.0.4"))
		rec.Next(t, "set pod shop/c  [10.0.0.4]")
		last := apiPod("b", "10.0.0.3")
		last.ResourceVersion = "8"
		first.Delete(last)
		rec.Next(t, "delete pod shop/b")

		// The stream ends, and the next one resumes there.
		second := apiwatch.NewFake()
		s.streams <- second
		first.Stop()
		if o := <-s.watches; o.SendInitialEvents != nil || o.ResourceVersion != "8" {
			t.Fatalf("watch from %+v, want from version 8", o)
		}
		second.Add(apiPod("d", "10.0.0.5"))
		rec.Next(t, "set pod shop/d  [10.0.0.5]")

		// The version is too old: everything is listed again, and what is gone is deleted at the end.
		third := apiwatch.NewFake()
		s.streams <- third
		gone := apierrors.NewResourceExpired("too old resource version").Status()
		second.Error(&gone)
		if o := <-s.watches; o.SendInitialEvents == nil {
			t.Fatalf("no list is streamed: %+v", o)
		}
		third.Add(apiPod("d", "10.0.0.5"))
		rec.Next(t, "set pod shop/d  [10.0.0.5]")
		third.Action(apiwatch.Bookmark, bookmark(9))
		rec.Next(t, "delete pod shop/c")
	})
}

// TestFeedStreamBreaks ends a stream before the list is complete: what it reported stays, and goes with the next list.
func TestFeedStreamBreaks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec := newServer(), sink.NewRecorder()
		startFeed(t, s.pods(), rec)
		first, second := apiwatch.NewFake(), apiwatch.NewFake()
		s.streams <- first
		<-s.watches
		first.Add(apiPod("a", "10.0.0.1"))
		rec.Next(t, "set pod shop/a  [10.0.0.1]")
		s.streams <- second
		first.Stop()
		<-s.watches
		second.Add(apiPod("b", "10.0.0.2"))
		rec.Next(t, "set pod shop/b  [10.0.0.2]")
		select {
		case <-rec.Done:
			t.Error("synced without a whole list")
		default:
		}
		second.Action(apiwatch.Bookmark, bookmark(3))
		rec.Next(t, "delete pod shop/a")
		<-rec.Done
	})
}

func TestFeedLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, rec := newServer(), sink.NewRecorder()
		s.pages = map[string]*corev1.PodList{
			"": {ListMeta: metav1.ListMeta{ResourceVersion: "5", Continue: "more"},
				Items: []corev1.Pod{*apiPod("a", "10.0.0.1"), *apiPod("b", "10.0.0.2")}},
			"more": {ListMeta: metav1.ListMeta{ResourceVersion: "5"}, Items: []corev1.Pod{*apiPod("c", "10.0.0.3")}},
		}
		startFeed(t, s.pods(), rec)
		rec.Next(t, "set pod shop/a  [10.0.0.1]")
		rec.Next(t, "set pod shop/b  [10.0.0.2]")
		rec.Next(t, "set pod shop/c  [10.0.0.3]")
		<-rec.Done
		if o := <-s.watches; o.ResourceVersion != "5" {
			t.Errorf("watch from %+v, want from version 5", o)
		}
	})
}

// TestFeedSuperseded: an event of an abandoned stream is older than what the next one reported.
func TestFeedSuperseded(t *testing.T) {
	rec := sink.NewRecorder()
	f := newFeed(newServer().pods(), rec, slog.New(slog.DiscardHandler))
	old, next := new(stream), new(stream)
	f.follow(old)
	f.follow(next)
	if !f.take(next, apiwatch.Added, apiPod("a", "10.0.0.2")) {
		t.Error("an object is left to the reflector")
	}
	rec.Next(t, "set pod shop/a  [10.0.0.2]")
	f.take(old, apiwatch.Added, apiPod("a", "10.0.0.1"))
	if len(rec.Updates) > 0 {
		t.Errorf("told: %s", <-rec.Updates)
	}
	if f.take(next, apiwatch.Bookmark, bookmark(1)) {
		t.Error("a bookmark is kept from the reflector")
	}
}

func TestFeedObjects(t *testing.T) {
	rec, log := sink.NewRecorder(), make(sink.Log, 10)
	f := newFeed(newServer().pods(), rec, slog.New(slog.NewTextHandler(log, nil)))
	if err := f.Replace(nil, ""); err == nil {
		t.Error("Replace without a list: no error")
	}
	bad := apiPod("a", "10.0.0.256")
	for range 2 {
		f.take(nil, apiwatch.Modified, bad)
		rec.Next(t, "set pod shop/a  []")
	}
	log.Expect(t, "level=WARN", "resource=pods", `pod shop/a: status.podIPs[0]: \"10.0.0.256\" is not an IP address`)
	if len(log) > 0 {
		t.Errorf("logged twice: %s", <-log)
	}
	done := apiPod("a", "10.0.0.1")
	done.Status.Phase = corev1.PodSucceeded
	f.take(nil, apiwatch.Modified, done)
	rec.Next(t, "delete pod shop/a")
	f.take(nil, apiwatch.Added, &corev1.Node{})
	log.Expect(t, "want *v1.Pod, not *v1.Node")
}

func TestContact(t *testing.T) {
	rec := sink.NewRecorder()
	c := contact{sink: rec, waiting: make(map[string]struct{})}
	c.answered("pods", nil)
	c.answered("pods", fmt.Errorf("list: %w",
		&url.Error{Op: "Get", URL: "https://a/very/long/one", Err: errors.New("connection refused")}))
	c.answered("namespaces", errors.New("connection refused"))
	c.answered("pods", nil)
	c.answered("namespaces", nil)
	c.answered("namespaces", nil)
	close(rec.Gone)
	var got []string
	for err := range rec.Gone {
		if err == nil {
			got = append(got, "back")
			continue
		}
		got = append(got, err.Error())
	}
	want := "pods: connection refused, namespaces: connection refused, back"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNewClient(t *testing.T) {
	dir := t.TempDir()
	valid, broken := filepath.Join(dir, "valid"), filepath.Join(dir, "broken")
	for path, text := range map[string]string{
		valid: `{"apiVersion":"v1","kind":"Config","current-context":"a",
"contexts":[{"name":"a","context":{"cluster":"a"}}],
"clusters":[{"name":"a","cluster":{"server":"https://192.0.2.1"}}]}`,
		broken: "a: b: c",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, tt := range []struct{ name, flag, env, want string }{
		{"flag", valid, "", ""},
		{"flag before environment", valid, broken, ""},
		{"environment", "", valid, ""},
		{"several files", "", filepath.Join(dir, "none") + ":" + valid, ""},
		{"no file", filepath.Join(dir, "none"), "", "none: no such file"},
		{"broken", "", broken, "broken of $KUBECONFIG: "},
		{"nothing", "", "", "neither --kubeconfig nor $KUBECONFIG is set"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", tt.env)
			t.Setenv("KUBERNETES_SERVICE_HOST", "")
			_, err := NewClient(tt.flag)
			switch {
			case tt.want == "" && err != nil:
				t.Error(err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
