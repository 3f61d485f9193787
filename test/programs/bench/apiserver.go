// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/pem"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// apiServer stands in for an API server with a cluster of a size: it streams what there is, in protobuf and over TLS, as a real one does
// since Kubernetes 1.32, and then the events that it is given. Objects are made while they are sent, so it needs little memory itself.
type apiServer struct {
	size
	*httptest.Server
	events chan watch.Event // of pods
}

func newAPIServer(z size) *apiServer {
	s := &apiServer{size: z, events: make(chan watch.Event, 1000)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/pods", s.stream(s.pods(), s.events))
	mux.HandleFunc("GET /api/v1/namespaces", s.stream(s.spaces(), nil))
	mux.HandleFunc("GET /apis/networking.k8s.io/v1/networkpolicies", s.stream(s.policies(), nil))
	s.Server = httptest.NewUnstartedServer(mux)
	s.EnableHTTP2 = true
	s.StartTLS()
	return s
}

// kubeconfig writes a kubeconfig for the server into a folder and returns its name.
func (s *apiServer) kubeconfig(folder string) (string, error) {
	name := filepath.Join(folder, "kubeconfig")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(name+".pem", ca, 0o600); err != nil {
		return "", err
	}
	return name, os.WriteFile(name, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: bench, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: bench, user: {token: bench}}]
contexts: [{name: bench, context: {cluster: bench, user: bench}}]
current-context: bench
`, s.URL, name+".pem"), 0o600)
}

func (s *apiServer) pods() iter.Seq[runtime.Object] {
	return all(s.size.pods, func(i int) runtime.Object { return typedPod(s.pod(i)) })
}

func (s *apiServer) spaces() iter.Seq[runtime.Object] {
	return all(s.namespaces(), func(i int) runtime.Object {
		ns := s.namespace(i)
		ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
		return ns
	})
}

func (s *apiServer) policies() iter.Seq[runtime.Object] {
	return all(s.size.policies, func(i int) runtime.Object {
		np := s.policy(i)
		np.SetGroupVersionKind(networkingv1.SchemeGroupVersion.WithKind("NetworkPolicy"))
		return np
	})
}

// typedPod makes a pod say what it is, which the encoder needs.
func typedPod(p *corev1.Pod) *corev1.Pod {
	p.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Pod"))
	return p
}

func all(n int, object func(i int) runtime.Object) iter.Seq[runtime.Object] {
	return func(yield func(runtime.Object) bool) {
		for i := range n {
			if !yield(object(i)) {
				return
			}
		}
	}
}

// stream answers a watch that begins with all there is.
func (s *apiServer) stream(objects iter.Seq[runtime.Object], events <-chan watch.Event) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if q := r.URL.Query(); q.Get("watch") == "" || q.Get("sendInitialEvents") != "true" ||
			!strings.Contains(r.Header.Get("Accept"), runtime.ContentTypeProtobuf) {
			http.Error(w, "this server can only stream protobuf, with the initial events", http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
		out := newEventWriter(w)
		for o := range objects {
			if out.write(watch.Event{Type: watch.Added, Object: o}) != nil {
				return // the client is gone
			}
		}
		end := typedPod(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			ResourceVersion: "1", Annotations: map[string]string{metav1.InitialEventsAnnotationKey: "true"},
		}})
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
	return &eventWriter{buffered, protobuf.LengthDelimitedFramer.NewFrameWriter(buffered), flusher, protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)}
}

func (w *eventWriter) write(e watch.Event) error {
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
