// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
	"k8s.io/klog/v2"

	"github.com/netpold/netpold/watch"
)

// feed is both ends of a reflector: what it lists and watches, and the store that it fills.
//
// A reflector would hold all objects of a list until the last has arrived, and take each event from another goroutine.
// So each object goes to the sink as it is decoded, and the reflector sees only what is left: resource versions, empty
// lists, bookmarks and errors. An object in a list is as true as one in a watch event, so passing it on early does no
// harm; what is not in the list can be deleted only when the reflector calls Replace at the end.
type feed struct {
	resource
	sink     watch.Sink
	log      *slog.Logger
	answered func(error) // called when the server answers (nil), or does not
	complete func()      // called when a list is complete

	mu      sync.Mutex
	current *stream                           // nil during a list; what others still bring is old, and ignored
	stale   map[types.NamespacedName]struct{} // what the sink had before the list, as yet; nil: no list
	skipped map[types.NamespacedName]string   // the invalid fields of an object, as logged
}

// stream is one watch. It passes objects to the sink, and returns the rest.
type stream struct {
	apiwatch.Decoder
	feed    *feed
	version string  // of the last object since the initial ones; "" if the reflector knows it
	rest    *result // to be returned after the version
}

// result is what a decoder returns.
type result struct {
	apiwatch.Event
	err error
}

var _ cache.ReflectorStore = (*feed)(nil)

func newFeed(r resource, sink watch.Sink, log *slog.Logger) *feed {
	return &feed{resource: r, sink: sink, log: log, skipped: make(map[types.NamespacedName]string),
		answered: func(error) {}, complete: func() {}}
}

// run lists and watches until ctx ends.
func (f *feed) run(ctx context.Context) {
	from := &cache.ListWatch{ListWithContextFunc: f.readList, WatchFuncWithContext: f.readStream}
	options := cache.ReflectorOptions{Name: "netpold", TypeDescription: f.name}
	cache.NewReflectorWithOptions(from, nil, f, options).RunWithContext(ctx)
}

// readList passes a page of a list to the sink, and returns only the metadata at its end.
func (f *feed) readList(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
	if o.Continue == "" {
		f.follow(nil)
		f.begin()
	}
	end, err := f.list(ctx, o, func(obj runtime.Object) error {
		f.take(nil, apiwatch.Added, obj)
		return nil
	})
	f.heard(ctx, err)
	if err != nil {
		return nil, err
	}
	return &metav1.List{ListMeta: metav1.ListMeta{ResourceVersion: end.ResourceVersion, Continue: end.Continue}}, nil
}

// readStream watches. The stream may begin with all existing objects, as a list.
func (f *feed) readStream(ctx context.Context, o metav1.ListOptions) (apiwatch.Interface, error) {
	s := &stream{feed: f}
	f.follow(s)
	var err error
	s.Decoder, err = f.watch(ctx, o)
	f.heard(ctx, err)
	if err != nil {
		return nil, err
	}
	if o.SendInitialEvents != nil && *o.SendInitialEvents {
		f.begin()
	}
	reporter := apierrors.NewClientErrorReporter(http.StatusInternalServerError, "watch", "ClientWatchDecoding")
	return apiwatch.NewStreamWatcherWithLogger(klog.FromContext(ctx), s, reporter), nil
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

// follow ends what was read before s, a stream, or nil for a list.
func (f *feed) follow(s *stream) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.current = s
}

// begin begins a list, or a stream that begins with one.
func (f *feed) begin() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stale = make(map[types.NamespacedName]struct{})
	f.sink.Update(func(objects watch.Objects) {
		for name := range f.names(objects) {
			f.stale[name] = struct{}{}
		}
	})
}

// Decode returns the next event that is not an object's, and before that, as a bookmark, how far the sink has got: the
// reflector goes on from there when the stream ends.
func (s *stream) Decode() (apiwatch.EventType, runtime.Object, error) {
	for s.rest == nil {
		typ, obj, err := s.Decoder.Decode()
		if err != nil || !s.feed.take(s, typ, obj) {
			s.rest = &result{apiwatch.Event{Type: typ, Object: obj}, err}
		}
	}
	if s.version != "" {
		told := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{ResourceVersion: s.version}}
		s.version = ""
		return apiwatch.Bookmark, told, nil
	}
	rest := s.rest
	s.rest = nil
	return rest.Type, rest.Object, rest.err
}

// take passes an object to the sink, and says false of an event without one.
func (f *feed) take(s *stream, typ apiwatch.EventType, obj runtime.Object) bool {
	tell := f.tell
	switch typ {
	case apiwatch.Added, apiwatch.Modified:
	case apiwatch.Deleted:
		tell = f.untell
	default:
		return false
	}
	m, err := meta.Accessor(obj)
	if err != nil {
		return false
	}
	name := types.NamespacedName{Namespace: m.GetNamespace(), Name: m.GetName()}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.current != s {
		return true
	}
	f.sink.Update(func(objects watch.Objects) { tell(objects, name, obj) })
	delete(f.stale, name)
	if s != nil && f.stale == nil { // the initial objects come in any order
		s.version = m.GetResourceVersion()
	}
	return true
}

// Replace ends a list: what was not in it is deleted. The reflector's own list is empty, as the sink already has the
// objects.
func (f *feed) Replace([]any, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.stale == nil {
		return errors.New("no list has begun")
	}
	f.sink.Update(func(objects watch.Objects) {
		for name := range f.stale {
			f.untell(objects, name, nil)
		}
	})
	f.stale = nil
	f.complete()
	return nil
}

// errTaken is of objects that a reflector has none of: see [stream].
var errTaken = errors.New("streams pass objects to the sink")

// Add completes the interface of stores. It is not called, like Update and Delete.
func (f *feed) Add(any) error { return errTaken }

// Update is [feed.Add].
func (f *feed) Update(any) error { return errTaken }

// Delete is [feed.Add].
func (f *feed) Delete(any) error { return errTaken }

// Resync does nothing: no event can have been lost.
func (f *feed) Resync() error { return nil }

// tell sets an object. Invalid fields are logged once. The caller holds the lock, as for untell.
func (f *feed) tell(objects watch.Objects, name types.NamespacedName, obj runtime.Object) {
	err := f.set(objects, obj)
	switch {
	case err == nil:
		delete(f.skipped, name)
	case f.skipped[name] != err.Error():
		f.skipped[name] = err.Error()
		f.log.Warn("ignoring invalid fields of object", "resource", f.name, "err", err)
	}
}

// untell removes an object.
func (f *feed) untell(objects watch.Objects, name types.NamespacedName, _ runtime.Object) {
	delete(f.skipped, name)
	f.remove(objects, name)
}
