// SPDX-License-Identifier: Apache-2.0

// Package apiserver is a stand-in for an API server: it streams pods, namespaces and policies, in protobuf over TLS, as
// Kubernetes 1.32 and later do, and accepts Events.
package apiserver

import (
	"encoding/pem"
	"fmt"
	"io"
	"iter"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
)

// Objects are the objects when a watch begins. They are made while they are sent, so that a large cluster needs little
// memory. Nil has none.
type Objects struct{ Pods, Namespaces, Policies iter.Seq[runtime.Object] }

// Server is a running server for one netpold.
type Server struct {
	*httptest.Server
	pods, namespaces, policies chan watch.Event

	mu      sync.Mutex
	written []*corev1.Event
}

// New starts a server on the loopback address of the network namespace of the calling thread.
func New(o Objects) *Server {
	events := func() chan watch.Event { return make(chan watch.Event, 1000) }
	s := &Server{pods: events(), namespaces: events(), policies: events()}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/pods", stream(o.Pods, s.pods))
	mux.HandleFunc("GET /api/v1/namespaces", stream(o.Namespaces, s.namespaces))
	mux.HandleFunc("GET /apis/networking.k8s.io/v1/networkpolicies", stream(o.Policies, s.policies))
	mux.HandleFunc("POST /api/v1/namespaces/{namespace}/events", s.create)
	s.Server = httptest.NewUnstartedServer(mux)
	s.EnableHTTP2 = true
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that are killed
	s.StartTLS()
	return s
}

// Close ends the server and its connections.
func (s *Server) Close() {
	s.CloseClientConnections()
	s.Server.Close()
}

// Kubeconfig writes a kubeconfig for the server into a folder and returns its name.
func (s *Server) Kubeconfig(folder string) (string, error) {
	name := filepath.Join(folder, "kubeconfig")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(name+".pem", ca, 0o600); err != nil {
		return "", err
	}
	return name, os.WriteFile(name, fmt.Appendf(nil, `apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: test, user: {token: test}}]
contexts: [{name: test, context: {cluster: test, user: test}}]
current-context: test
`, s.URL, name+".pem"), 0o600)
}

// Send reports an object that was added, modified or deleted. The server owns the object from then on.
func (s *Server) Send(what watch.EventType, o runtime.Object) {
	to := s.pods
	switch o.(type) {
	case *corev1.Namespace:
		to = s.namespaces
	case *networkingv1.NetworkPolicy:
		to = s.policies
	}
	to <- watch.Event{Type: what, Object: o}
}

// Written returns the Events that clients have created so far.
func (s *Server) Written() []*corev1.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.written)
}
