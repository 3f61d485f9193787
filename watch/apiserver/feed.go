// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"

	"github.com/netpold/netpold/watch"
)

// feed is both ends of a reflector: what it lists and watches, and the store that it fills.
//
// A reflector would hold all objects of a list until the last has arrived. So each object goes to the sink as it is
// decoded, and the reflector sees only the end: resource versions, an empty list, an empty stream of initial events. An
// object in a list is as true as one in a watch event, so passing it on early does no harm; what is not in the list can
// be deleted only when the reflector calls Replace at the end. Later changes come through the store, in order.
type feed struct {
	resource
	sink     watch.Sink
	log      *slog.Logger
	answered func(error) // called when the server answers (nil), or does not
	complete func()      // called when a list is complete

	mu      sync.Mutex
	current *listing                        // the newest
	skipped map[types.NamespacedName]string // the invalid fields of an object, as logged
}

// listing is one attempt to list everything. Once the next has begun, its results are stale and ignored.
type listing struct {
	stale    map[types.NamespacedName]struct{} // what the sink had before and the list has not repeated yet
	complete bool
}

var (
	_ cache.ListerWatcherWithContext = (*feed)(nil)
	_ cache.ReflectorStore           = (*feed)(nil)
)

func newFeed(r resource, sink watch.Sink, log *slog.Logger) *feed {
	return &feed{resource: r, sink: sink, log: log, skipped: make(map[types.NamespacedName]string),
		answered: func(error) {}, complete: func() {}}
}

// List and Watch complete the interface that reflectors take.
func (f *feed) List(o metav1.ListOptions) (runtime.Object, error) {
	return f.ListWithContext(context.Background(), o)
}

// Watch is [feed.WatchWithContext].
func (f *feed) Watch(o metav1.ListOptions) (apiwatch.Interface, error) {
	return f.WatchWithContext(context.Background(), o)
}

// ListWithContext passes a page of a list to the sink, and returns only the metadata at its end.
func (f *feed) ListWithContext(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	if o.Continue == "" {
		f.begin()
	}
	end, err := f.list(ctx, o, func(obj runtime.Object) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.sink.Update(func(objects watch.Objects) { delete(f.current.stale, f.tell(objects, obj)) })
		return nil
	})
	f.heard(ctx, err)
	if err != nil {
		f.abandon()
		return nil, err
	}
	return &metav1.List{ListMeta: metav1.ListMeta{ResourceVersion: end.ResourceVersion, Continue: end.Continue}}, nil
}

// WatchWithContext watches. If the stream begins with all existing objects, these go to the sink, and the reflector
// gets the rest.
func (f *feed) WatchWithContext(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
	var take func(apiwatch.Event) bool
	if o.SendInitialEvents != nil && *o.SendInitialEvents {
		l := f.begin()
		take = func(e apiwatch.Event) bool { return f.initial(l, e) }
	}
	w, err := f.watch(ctx, o, take)
	f.heard(ctx, err)
	if err != nil && take != nil {
		f.abandon()
	}
	return w, err
}

// heard notes whether the server answers. "Version too old" and "cannot stream lists" are answers too: the reflector
// then asks for something else.
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

// begin begins a listing, and ends the previous one.
func (f *feed) begin() *listing {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = &listing{stale: make(map[types.NamespacedName]struct{})}
	f.sink.Update(func(objects watch.Objects) {
		for name := range f.names(objects) {
			f.current.stale[name] = struct{}{}
		}
	})
	return f.current
}

// abandon ends a failed listing. Objects that it passed on stay until another one completes.
func (f *feed) abandon() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = &listing{complete: true}
}

// initial takes an event if it is one of the initial ones, which end with a bookmark.
func (f *feed) initial(l *listing, e apiwatch.Event) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.current != l:
		return true // of an earlier stream, which nobody reads any more
	case l.complete:
		return false
	case e.Type == apiwatch.Added || e.Type == apiwatch.Modified:
		f.sink.Update(func(objects watch.Objects) { delete(l.stale, f.tell(objects, e.Object)) })
		return true
	case e.Type == apiwatch.Deleted:
		f.sink.Update(func(objects watch.Objects) { f.untell(objects, e.Object) })
		return true
	}
	return false // bookmarks and errors are the reflector's
}

// Replace ends the listing: what was not in it is deleted. The reflector's own list is empty, as the sink already has
// the objects.
func (f *feed) Replace([]any, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := f.current
	if l == nil || l.complete {
		return errors.New("no list has begun")
	}
	f.sink.Update(func(objects watch.Objects) {
		for name := range l.stale {
			f.remove(objects, name)
			delete(f.skipped, name)
		}
	})
	l.stale, l.complete = nil, true
	f.complete()
	return nil
}

// Add sets an object in the sink.
func (f *feed) Add(obj any) error { return f.event(obj, f.tell) }

// Update is [feed.Add].
func (f *feed) Update(obj any) error { return f.event(obj, f.tell) }

// Delete deletes an object from the sink.
func (f *feed) Delete(obj any) error { return f.event(obj, f.untell) }

// Resync does nothing: no event can have been lost.
func (f *feed) Resync() error { return nil }

func (f *feed) event(obj any, tell func(watch.Objects, runtime.Object) types.NamespacedName) error {
	object, ok := obj.(runtime.Object)
	if !ok {
		return fmt.Errorf("want an object, not %T", obj)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sink.Update(func(objects watch.Objects) { tell(objects, object) })
	return nil
}

// tell sets an object and returns its name. Invalid fields are logged once. The caller holds the lock, as for untell.
func (f *feed) tell(objects watch.Objects, obj runtime.Object) types.NamespacedName {
	name, err := nameOf(obj)
	if err == nil {
		err = f.set(objects, obj)
	}
	switch {
	case err == nil:
		delete(f.skipped, name)
	case f.skipped[name] != err.Error():
		f.skipped[name] = err.Error()
		f.log.Warn("ignoring invalid fields of object", "resource", f.name, "err", err)
	}
	return name
}

// untell removes an object and returns its name.
func (f *feed) untell(objects watch.Objects, obj runtime.Object) types.NamespacedName {
	name, err := nameOf(obj)
	if err == nil {
		delete(f.skipped, name)
		f.remove(objects, name)
	}
	return name
}

func nameOf(obj runtime.Object) (types.NamespacedName, error) {
	m, err := meta.Accessor(obj)
	if err != nil {
		return types.NamespacedName{}, err
	}
	return types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}, nil
}
