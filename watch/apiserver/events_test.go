// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// TestEventWriter: requests to an API server, and what its answers become.
func TestEventWriter(t *testing.T) {
	var asked, body []string
	status := http.StatusCreated
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		asked, body = append(asked, r.Method+" "+r.URL.String()+" "+r.Header.Get("Content-Type")),
			append(body, string(data))
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		answer := metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Code: int32(status)}
		if status == http.StatusConflict {
			answer.Reason = metav1.StatusReasonAlreadyExists
		}
		if err := errors.Join(err, json.NewEncoder(w).Encode(answer)); err != nil {
			t.Error(err)
		}
	}))
	t.Cleanup(server.Close)
	w := clientOf(t, server.URL).Events()
	e := &corev1.Event{
		ObjectMeta:     metav1.ObjectMeta{Namespace: "shop", Name: "db-0.1"},
		InvolvedObject: corev1.ObjectReference{Namespace: "shop", Name: "db-0", Kind: "Pod", UID: "u1"},
	}
	if err := w.Create(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	name := types.NamespacedName{Namespace: e.Namespace, Name: e.Name}
	status = http.StatusOK
	if err := w.Patch(t.Context(), name, []byte(`{"count":7}`)); err != nil {
		t.Fatal(err)
	}
	status = http.StatusConflict
	if err := w.Create(t.Context(), e); !apierrors.IsAlreadyExists(err) {
		t.Errorf("again: %v", err)
	}
	status = http.StatusNotFound
	if err := w.Patch(t.Context(), name, nil); !apierrors.IsNotFound(err) {
		t.Errorf("one that is not there: %v", err)
	}
	const path = "/api/v1/namespaces/shop/events"
	if want := []string{"POST " + path + " " + runtime.ContentTypeProtobuf,
		"PATCH " + path + "/" + e.Name + " application/merge-patch+json"}; !slices.Equal(asked[:2], want) {
		t.Errorf("asked %q, want %q", asked[:2], want)
	}
	var unknown runtime.Unknown
	var got corev1.Event
	if err := errors.Join(unknown.Unmarshal([]byte(strings.TrimPrefix(body[0], protobufMagic))),
		got.Unmarshal(unknown.Raw)); err != nil {
		t.Fatal(err)
	}
	if unknown.Kind != "Event" || got.Name != e.Name || got.InvolvedObject != e.InvolvedObject ||
		body[1] != `{"count":7}` {
		t.Errorf("sent %s %+v, then %s", unknown.Kind, got, body[1])
	}
}
