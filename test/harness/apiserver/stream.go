// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"io"
	"iter"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// stream answers a watch that begins with all objects.
func stream(objects iter.Seq[runtime.Object], events <-chan watch.Event) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("watch") == "" || q.Get("sendInitialEvents") != "true" ||
			!strings.Contains(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
			http.Error(w, "this server can only stream protobuf, with the initial events", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
		out := newEventWriter(w)
		if objects != nil {
			for o := range objects {
				if out.write(watch.Event{Type: watch.Added, Object: o}) != nil {
					return // the client is gone
				}
			}
		}
		end := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			ResourceVersion: "1", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		}}
		if out.write(watch.Event{Type: watch.Bookmark, Object: end}) != nil || out.flush() != nil {
			return
		}
		for {
			select {
			case <-r.Context().Done():
				return
			case e := <-events:
				if out.write(e) != nil || out.flush() != nil {
					return
				}
			}
		}
	}
}

// serializer writes and reads objects with their kind.
func serializer() *protobuf.Serializer { return protobuf.NewSerializer(scheme.Scheme, scheme.Scheme) }

// eventWriter writes watch events as frames of protobuf.
type eventWriter struct {
	buffered *bufio.Writer
	frames   io.Writer
	flusher  http.Flusher
	encoder  *protobuf.Serializer
}

func newEventWriter(w http.ResponseWriter) *eventWriter {
	flusher, _ := w.(http.Flusher)
	buffered := bufio.NewWriterSize(w, 64<<10)
	return &eventWriter{buffered, protobuf.LengthDelimitedFramer.NewFrameWriter(buffered), flusher, serializer()}
}

func (w *eventWriter) write(e watch.Event) error {
	kinds, _, err := scheme.Scheme.ObjectKinds(e.Object)
	if err != nil {
		return err
	}
	e.Object.GetObjectKind().SetGroupVersionKind(kinds[0])
	object, err := runtime.Encode(w.encoder, e.Object)
	if err != nil {
		return err
	}
	event := metav1.WatchEvent{Type: string(e.Type), Object: runtime.RawExtension{Raw: object}}
	frame, err := event.Marshal()
	if err != nil {
		return err
	}
	_, err = w.frames.Write(frame)
	return err
}

func (w *eventWriter) flush() error {
	err := w.buffered.Flush()
	w.flusher.Flush()
	return err
}

// create accepts an Event.
func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	e := new(corev1.Event)
	data, err := io.ReadAll(r.Body)
	if err == nil {
		_, _, err = serializer().Decode(data, nil, e)
	}
	if err != nil || e.Namespace != r.PathValue("namespace") {
		http.Error(w, "not an Event of this namespace", http.StatusBadRequest)
		return
	}
	s.mu.Lock()
	s.written = append(s.written, e)
	s.mu.Unlock()
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	w.WriteHeader(http.StatusCreated)
	_, _ = w.Write(data)
}
