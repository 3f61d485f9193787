// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// feed is both ends of a reflector: what it lists and watches, and the store that it fills.
//
// Of a list, the reflector would hold all objects until the last one is there. So each object goes to the sink when it is decoded,
// and the reflector sees but the end: resource versions, an empty list, an empty stream of initial events. What an object is in a
// list is as true as what a watch says of it, so there is no harm in telling it early; what is not in the list can be deleted only
// when the reflector calls Replace at its end. What changes after that comes through the store, in order.
type feed struct {
	resource
	sink     Sink
	log      *slog.Logger
	answered func(error) // the server did, or why it did not
	complete func()      // a list is

	mu      sync.Mutex
	known   map[string]struct{} // namespace/name of the objects that the sink has
	current *listing            // the newest
	skipped map[string]string   // what was left out of an object, as logged
}

// listing is one attempt to list everything. What comes of it after the next has begun is old and passed over.
type listing struct {
	seen map[string]struct{} // namespace/name of the objects so far; nil when it is complete
}

var (
	_ cache.ListerWatcherWithContext = (*feed)(nil)
	_ cache.ReflectorStore           = (*feed)(nil)
)

func newFeed(r resource, sink Sink, log *slog.Logger) *feed {
	return &feed{resource: r, sink: sink, log: log, known: make(map[string]struct{}), skipped: make(map[string]string),
		answered: func(error) {}, complete: func() {}}
}

// List and Watch are of the interface that reflectors take, for those who have no context.
func (f *feed) List(o metav1.ListOptions) (runtime.Object, error) {
	return f.ListWithContext(context.Background(), o)
}

// Watch is [feed.WatchWithContext].
func (f *feed) Watch(o metav1.ListOptions) (watch.Interface, error) {
	return f.WatchWithContext(context.Background(), o)
}

// ListWithContext gives a page of a list to the sink and returns what is left of it: where it ends.
func (f *feed) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	if o.Continue == "" {
		f.begin()
	}
	end, err := f.list(ctx, o, func(obj runtime.Object) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.sink.Update(func(objects Objects) { f.current.see(f.tell(objects, obj)) })
		return nil
	})
	f.heard(ctx, err)
	if err != nil {
		return nil, err
	}
	return &metav1.List{ListMeta: metav1.ListMeta{ResourceVersion: end.ResourceVersion, Continue: end.Continue}}, nil
}

// WatchWithContext watches. Where the stream begins with all the objects there are, these go to the sink, and the reflector gets
// what comes after.
func (f *feed) WatchWithContext(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
	var l *listing
	if o.SendInitialEvents != nil && *o.SendInitialEvents {
		l = f.begin()
	}
	w, err := f.watch(ctx, o)
	f.heard(ctx, err)
	if err != nil || l == nil {
		return w, err
	}
	return newStream(w, func(e watch.Event) bool { return f.initial(l, e) }), nil
}

// heard notes whether the server answers. It does, too, when it says that a version is too old or that it cannot stream lists: the
// reflector asks for something else then.
func (f *feed) heard(ctx context.Context, err error) {
	switch {
	case ctx.Err() != nil:
	case apierrors.IsResourceExpired(err), apierrors.IsGone(err), apierrors.IsInvalid(err), apierrors.IsBadRequest(err),
		apierrors.HasStatusCause(err, metav1.CauseTypeResourceVersionTooLarge):
		f.answered(nil)
	default:
		f.answered(err)
	}
}

// begin begins a listing, and ends any other.
func (f *feed) begin() *listing {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = &listing{seen: make(map[string]struct{}, len(f.known))}
	return f.current
}

// initial takes an event of a stream if it is of the initial ones, which end with a bookmark.
func (f *feed) initial(l *listing, e watch.Event) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.current != l:
		return true // of an earlier stream, and nobody reads it any more
	case l.seen == nil:
		return false
	case e.Type == watch.Added || e.Type == watch.Modified:
		f.sink.Update(func(objects Objects) { l.see(f.tell(objects, e.Object)) })
		return true
	case e.Type == watch.Deleted:
		f.sink.Update(func(objects Objects) { delete(l.seen, f.untell(objects, e.Object)) })
		return true
	}
	return false // a bookmark or an error, which are the reflector's
}

// see notes that an object is there.
func (l *listing) see(key string) {
	if l != nil && l.seen != nil && key != "" {
		l.seen[key] = struct{}{}
	}
}

// Replace ends the listing: what was not in it goes. The reflector's own list is empty, for the objects have been told.
func (f *feed) Replace([]any, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current == nil || f.current.seen == nil {
		return errors.New("no list has begun")
	}
	f.sink.Update(func(objects Objects) {
		for key := range f.known {
			if _, seen := f.current.seen[key]; !seen {
				f.remove(objects, nameOf(key))
				delete(f.skipped, key)
			}
		}
	})
	f.known, f.current.seen = f.current.seen, nil
	f.complete()
	return nil
}

// Add gives an object to the sink.
func (f *feed) Add(obj any) error { return f.event(obj, f.tell) }

// Update is [feed.Add].
func (f *feed) Update(obj any) error { return f.event(obj, f.tell) }

// Delete takes an object from the sink.
func (f *feed) Delete(obj any) error { return f.event(obj, f.untell) }

// Resync does nothing: there is nobody who could have lost an event.
func (f *feed) Resync() error { return nil }

func (f *feed) event(obj any, tell func(Objects, runtime.Object) string) error {
	object, ok := obj.(runtime.Object)
	if !ok {
		return fmt.Errorf("want an object, not %T", obj)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sink.Update(func(objects Objects) { tell(objects, object) })
	return nil
}

// tell sets an object and returns its key. What is left out of it is logged once. The caller holds the lock, as for untell.
func (f *feed) tell(objects Objects, obj runtime.Object) string {
	key, err := keyOf(obj)
	if err == nil {
		f.known[key] = struct{}{}
		err = f.set(objects, obj)
	}
	switch {
	case err == nil:
		delete(f.skipped, key)
	case f.skipped[key] != err.Error():
		f.skipped[key] = err.Error()
		f.log.Warn("object counts without what is wrong with it", "resource", f.name, "err", err)
	}
	return key
}

// untell removes an object and returns its key.
func (f *feed) untell(objects Objects, obj runtime.Object) string {
	key, err := keyOf(obj)
	if err != nil {
		return ""
	}
	delete(f.known, key)
	delete(f.skipped, key)
	f.remove(objects, nameOf(key))
	return key
}

// keyOf returns namespace/name.
func keyOf(obj runtime.Object) (string, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return "", err
	}
	return m.GetNamespace() + "/" + m.GetName(), nil
}

func nameOf(key string) types.NamespacedName {
	namespace, name, _ := strings.Cut(key, "/")
	return types.NamespacedName{Namespace: namespace, Name: name}
}

// stream is a watch of which take keeps some events to itself. Unlike [watch.Filter], it ends when it is stopped while an event is
// on its way.
type stream struct {
	watch.Interface
	take    func(watch.Event) bool
	result  chan watch.Event
	stop    func()
	stopped chan struct{}
}

func newStream(w watch.Interface, take func(watch.Event) bool) *stream {
	s := &stream{Interface: w, take: take, result: make(chan watch.Event), stopped: make(chan struct{})}
	s.stop = sync.OnceFunc(func() { close(s.stopped) })
	go s.run()
	return s
}

// ResultChan returns the other events.
func (s *stream) ResultChan() <-chan watch.Event { return s.result }

// Stop ends the stream.
func (s *stream) Stop() {
	s.stop()
	s.Interface.Stop()
}

func (s *stream) run() {
	defer close(s.result)
	for e := range s.Interface.ResultChan() {
		if s.take(e) {
			continue
		}
		select {
		case s.result <- e:
		case <-s.stopped:
			return
		}
	}
}
