// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/netpold/netpold/test/harness/sink"
	"github.com/netpold/netpold/translate/policy"
)

// deployed is a realistic pod: of six kilobytes in protobuf, policies need half of one.
func deployed(t testing.TB) *corev1.Pod {
	t.Helper()
	text, err := os.ReadFile("testdata/pod.json")
	if err != nil {
		t.Fatal(err)
	}
	p := new(corev1.Pod)
	if err := json.Unmarshal(text, p); err != nil {
		t.Fatal(err)
	}
	p.APIVersion, p.Kind = "", ""
	return p
}

// enveloped returns an object as the API server sends it.
func enveloped(t testing.TB, version, kind string, obj interface{ Marshal() ([]byte, error) }) []byte {
	t.Helper()
	raw, err := obj.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	unknown := runtime.Unknown{TypeMeta: runtime.TypeMeta{APIVersion: version, Kind: kind}, Raw: raw}
	message, err := unknown.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return append([]byte(protobufMagic), message...)
}

// wireResource returns the decoder of a resource.
func wireResource(kind string, empty func() message) wireDecoder {
	return endpoint{codecs: newCodecs(), kind: kind, empty: empty}.decoder()
}

func podDecoder() wireDecoder { return wireResource("Pod", func() message { return new(corev1.Pod) }) }

// decoded decodes an object.
func decoded(t testing.TB, d wireDecoder, data []byte) runtime.Object {
	t.Helper()
	obj, err := d.object(data)
	if err != nil {
		t.Fatal(err)
	}
	return obj
}

// TestTrim compares a trimmed object with the whole one: policies must not see the difference.
func TestTrim(t *testing.T) {
	always, controller := corev1.ContainerRestartPolicyAlways, true
	full := deployed(t)
	full.Spec.HostNetwork = true
	full.Spec.InitContainers = []corev1.Container{{Name: "sidecar", RestartPolicy: &always,
		Ports: []corev1.ContainerPort{
			{Name: "admin", ContainerPort: 65535, Protocol: corev1.ProtocolUDP}}}}
	full.OwnerReferences = append(full.OwnerReferences,
		metav1.OwnerReference{Kind: "Node", Name: "other", Controller: &controller})
	full.Status.PodIPs = append(full.Status.PodIPs, corev1.PodIP{IP: "2001:db8::1"})
	deleted, lost, unknown := deployed(t), deployed(t), deployed(t)
	deleted.DeletionTimestamp, lost.Status.Reason = &deleted.CreationTimestamp, "NodeLost"
	unknown.Status.Phase = corev1.PodUnknown
	for _, p := range []*corev1.Pod{full, deployed(t), deleted, lost, unknown, apiPod("a", "10.0.0.1"), {}} {
		want, wantAlive, _ := policy.PodFrom(p)
		got, alive, err := policy.PodFrom(decoded(t, podDecoder(), enveloped(t, "v1", "Pod", p)).(*corev1.Pod))
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{}),
			cmpopts.EquateEmpty()); diff != "" || err != nil ||
			alive != wantAlive || got.Terminating != (p == deleted || p == lost || p == unknown) {
			t.Errorf("pod %s (-all of it +trimmed): %v\n%s", p.Name, err, diff)
		}
	}
	trimmed := decoded(t, podDecoder(), enveloped(t, "v1", "Pod", full)).(*corev1.Pod)
	if trimmed.ManagedFields != nil || trimmed.Spec.Volumes != nil || trimmed.ResourceVersion != full.ResourceVersion {
		t.Errorf("trimmed to %v", trimmed)
	}
	mark := decoded(t, podDecoder(), enveloped(t, "v1", "Pod", bookmark(7))).(*corev1.Pod)
	if diff := cmp.Diff(bookmark(7).Annotations, mark.Annotations); diff != "" {
		t.Errorf("bookmark (-want +got):\n%s", diff)
	}
	np := &networkingv1.NetworkPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "deny", UID: "1"},
		Spec:       networkingv1.NetworkPolicySpec{PolicyTypes: []networkingv1.PolicyType{"Egress"}},
	}
	policies := wireResource("NetworkPolicy", func() message { return new(networkingv1.NetworkPolicy) })
	got := decoded(t, policies, enveloped(t, "networking.k8s.io/v1", "NetworkPolicy", np)).(*networkingv1.NetworkPolicy)
	if !cmp.Equal(np.Spec, got.Spec, cmpopts.EquateEmpty()) || !cmp.Equal(np.ObjectMeta, got.ObjectMeta) {
		t.Errorf("policy trimmed to %v", got)
	}
	status := decoded(t, podDecoder(),
		enveloped(t, "v1", "Status", &metav1.Status{Code: 410, Reason: "Expired"})).(*metav1.Status)
	if status.Code != 410 || status.Reason != "Expired" {
		t.Errorf("status trimmed to %v", status)
	}
}

// FuzzTrim trims and reads input that no API server would send.
func FuzzTrim(f *testing.F) {
	f.Add(enveloped(f, "v1", "Pod", deployed(f)))
	f.Add(enveloped(f, "v1", "PodList", &corev1.PodList{Items: []corev1.Pod{*deployed(f)}}))
	f.Add([]byte(protobufMagic + "\x0a\x00\x12\xff"))
	f.Fuzz(func(_ *testing.T, data []byte) {
		items := wireDecoder{kind: "Pod", empty: func() message {
			return new(corev1.Pod)
		}, keep: keptFields("Pod"), others: noDecoder{}}
		_, _ = items.object(data)
		l := listReader{items: items, each: func(runtime.Object) error { return nil }}
		_ = l.read(bytes.NewReader(data))
		e := eventReader{items: items, r: bufio.NewReader(bytes.NewReader(data))}
		if !bytes.HasPrefix(data, []byte("{")) {
			_, _, _ = e.Decode()
		}
	})
}

// noDecoder decodes nothing.
type noDecoder struct{}

func (noDecoder) Decode([]byte, *schema.GroupVersionKind, runtime.Object) (runtime.Object,
	*schema.GroupVersionKind, error) {
	return nil, nil, errors.New("no decoder")
}

// podReader reads lists of pods.
func podReader(each func(runtime.Object) error) *listReader {
	return &listReader{items: podDecoder(), each: each}
}

// podList is a page of a list.
func podList(names ...string) *corev1.PodList {
	l := &corev1.PodList{ListMeta: metav1.ListMeta{ResourceVersion: "5", Continue: "more"}}
	for i, name := range names {
		l.Items = append(l.Items, *apiPod(name, fmt.Sprintf("10.0.0.%d", i+1)))
	}
	return l
}

func TestListReader(t *testing.T) {
	data := enveloped(t, "v1", "PodList", podList("a", "b", "c"))
	text, err := json.Marshal(struct {
		APIVersion, Kind string
		*corev1.PodList
	}{"v1", "PodList", podList("a", "b", "c")})
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range [][]byte{data, text} {
		var names []string
		l := podReader(func(obj runtime.Object) error { names = append(names, obj.(*corev1.Pod).Name); return nil })
		if err := l.read(bytes.NewReader(body)); err != nil {
			t.Fatal(err)
		}
		if strings.Join(names, " ") != "a b c" || l.end.ResourceVersion != "5" || l.end.Continue != "more" {
			t.Errorf("read %q, end %v", names, l.end)
		}
	}
	for n := range len(data) { // wherever the connection breaks
		l := podReader(func(runtime.Object) error { return nil })
		if err := l.read(bytes.NewReader(data[:n])); err == nil && l.end.ResourceVersion == "" {
			t.Errorf("%d of %d bytes are a list", n, len(data))
		}
	}
	full := errors.New("full")
	l := podReader(func(runtime.Object) error { return full })
	if err := l.read(bytes.NewReader(data)); !errors.Is(err, full) {
		t.Errorf("got %v, want the error of each", err)
	}
	for _, bad := range []string{"\x10\x01", "\x12\x06\x12\xff\xff\xff\xff\x7f", "\x12\x02\x12\x00"} {
		l := podReader(func(runtime.Object) error { return nil })
		if err := l.read(strings.NewReader(protobufMagic + bad)); bad != "\x12\x02\x12\x00" && err == nil {
			t.Errorf("%q is a list", bad)
		}
	}
}

// TestListStreams reads a list whose server waits until each item has been taken: a list is never in memory as a whole.
func TestListStreams(t *testing.T) {
	pods := make([]string, 50)
	for i := range pods {
		pods[i] = fmt.Sprintf("pod-%d-%s", i, strings.Repeat("x", 100<<10))
	}
	data := enveloped(t, "v1", "PodList", podList(pods...))
	sent, taken := 0, 0
	l := podReader(func(runtime.Object) error { taken++; return nil })
	body := readFunc(func(p []byte) (int, error) {
		if ahead := sent - taken*100<<10; ahead > 1<<20 {
			t.Fatalf("%d bytes read, %d items taken", sent, taken)
		}
		if sent == len(data) {
			return 0, io.EOF
		}
		n := copy(p, data[sent:])
		sent += n
		return n, nil
	})
	if err := l.read(body); err != nil || taken != len(pods) {
		t.Errorf("%d items taken, want %d: %v", taken, len(pods), err)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// wireServer answers in protobuf with one object of each kind, as a streamed list if it can.
type wireServer struct {
	t       *testing.T
	streams bool
	queries chan string
}

func (s *wireServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	s.queries <- r.URL.Path + "?fieldSelector=" + q.Get("fieldSelector")
	var kind, version string
	var object, list interface{ Marshal() ([]byte, error) }
	switch r.URL.Path {
	case "/api/v1/pods":
		kind, version, object, list = "Pod", "v1", apiPod("a", "10.0.0.1"), podList("a")
		list.(*corev1.PodList).Continue = ""
	case "/api/v1/namespaces":
		ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "a"}}}
		kind, version, object, list = "Namespace", "v1", ns,
			&corev1.NamespaceList{ListMeta: metav1.ListMeta{ResourceVersion: "5"}, Items: []corev1.Namespace{*ns}}
	case "/apis/networking.k8s.io/v1/networkpolicies":
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "deny"}}
		kind, version, object = "NetworkPolicy", "networking.k8s.io/v1", np
		list = &networkingv1.NetworkPolicyList{ListMeta: metav1.ListMeta{ResourceVersion: "5"},
			Items: []networkingv1.NetworkPolicy{*np}}
	default:
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", runtime.ContentTypeProtobuf)
	switch {
	case q.Get("watch") == "":
		_, _ = w.Write(enveloped(s.t, version, kind+"List", list))
		return
	case q.Get("sendInitialEvents") == "" || s.streams:
		w.Header().Set("Content-Type", runtime.ContentTypeProtobuf+";stream=watch")
	default:
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = w.Write(enveloped(s.t, "v1", "Status",
			&metav1.Status{Status: "Failure", Reason: metav1.StatusReasonInvalid, Code: 422}))
		return
	}
	if q.Get("sendInitialEvents") != "" {
		writeEvent(s.t, w, "ADDED", enveloped(s.t, version, kind, object))
		writeEvent(s.t, w, "BOOKMARK", enveloped(s.t, version, kind, bookmark(5)))
	}
	w.(http.Flusher).Flush()
	<-r.Context().Done()
}

// writeEvent writes one event of a watch.
func writeEvent(t testing.TB, w io.Writer, typ string, object []byte) {
	t.Helper()
	data, err := (&metav1.WatchEvent{Type: typ, Object: runtime.RawExtension{Raw: object}}).Marshal()
	if err != nil {
		t.Error(err)
	}
	_, _ = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
}

// TestSource feeds a sink over HTTP, from a server that streams lists and one that does not.
func TestSource(t *testing.T) {
	for _, streams := range []bool{true, false} {
		t.Run(fmt.Sprintf("streams=%v", streams), func(t *testing.T) {
			handler := &wireServer{t, streams, make(chan string, 100)}
			server := httptest.NewServer(handler)
			t.Cleanup(server.Close)
			client := clientOf(t, server.URL)
			rec := sink.NewRecorder()
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			source := &Source{Client: client, Log: slog.New(slog.DiscardHandler)}
			go func() { done <- source.Run(ctx, rec) }()
			select {
			case <-rec.Done:
			case <-time.After(30 * time.Second):
				t.Fatal("not synced")
			}
			var got []string
			for len(rec.Updates) > 0 {
				if update := <-rec.Updates; update != "" {
					got = append(got, update)
				}
			}
			slices.Sort(got)
			want := []string{"set namespace shop team=a", "set pod shop/a  [10.0.0.1]", "set policy shop/deny selects"}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("told (-want +got):\n%s", diff)
			}
			cancel()
			if err := <-done; err != nil {
				t.Errorf("Run: %v", err)
			}
			for len(handler.queries) > 0 {
				if q := <-handler.queries; strings.HasPrefix(q, "/api/v1/pods") &&
					q != "/api/v1/pods?fieldSelector="+unfinished {
					t.Errorf("%s asks for more than it needs", q)
				}
			}
		})
	}
}

// clientOf returns a client for a server.
func clientOf(t *testing.T, url string) *Client {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	text := fmt.Sprintf(`{"apiVersion":"v1","kind":"Config","current-context":"a",
"contexts":[{"name":"a","context":{"cluster":"a"}}],
"clusters":[{"name":"a","cluster":{"server":%q}}]}`, url)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := NewClient(path)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// TestEventReader reads a watch in both encodings.
func TestEventReader(t *testing.T) {
	gone := &metav1.Status{Status: "Failure", Reason: metav1.StatusReasonExpired, Code: 410}
	var frames, lines bytes.Buffer
	writeEvent(t, &frames, "ADDED", enveloped(t, "v1", "Pod", apiPod("a", "10.0.0.1")))
	writeEvent(t, &frames, "MODIFIED", enveloped(t, "v1", "Pod", deployed(t)))
	writeEvent(t, &frames, "ERROR", enveloped(t, "v1", "Status", gone))
	const pod = `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"shop","name":%q}}`
	lines.WriteString(`{"type":"ADDED","object":` + fmt.Sprintf(pod, "a") + `}
{"type":"MODIFIED","object":` + fmt.Sprintf(pod, deployed(t).Name) + `}
{"type":"ERROR","object":{"apiVersion":"v1","kind":"Status","status":"Failure","reason":"Expired","code":410}}
`)
	json, _ := runtime.SerializerInfoForMediaType(newCodecs().SupportedMediaTypes(), runtime.ContentTypeJSON)
	for _, stream := range []*bytes.Buffer{&frames, &lines} {
		data := slices.Clone(stream.Bytes())
		read := func(stream io.Reader) (texts []string, err error) {
			e := &eventReader{items: podDecoder(), json: json.StreamSerializer, r: bufio.NewReader(stream)}
			for {
				typ, obj, err := e.Decode()
				if err != nil {
					return texts, err
				}
				switch obj := obj.(type) {
				case *corev1.Pod:
					texts = append(texts, string(typ)+" "+obj.Namespace+"/"+obj.Name)
				case *metav1.Status:
					texts = append(texts, string(typ)+" "+string(obj.Reason))
				}
			}
		}
		got, err := read(bytes.NewReader(data))
		want := []string{"ADDED shop/a", "MODIFIED shop/" + deployed(t).Name, "ERROR Expired"}
		if diff := cmp.Diff(want, got); diff != "" || !errors.Is(err, io.EOF) {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		if _, err := read(bytes.NewReader(data[:len(data)-5])); !errors.Is(err, io.ErrUnexpectedEOF) &&
			!errors.Is(err, io.EOF) {
			t.Errorf("an event that is cut: %v", err)
		}
	}
	e := &eventReader{items: podDecoder(), r: bufio.NewReader(strings.NewReader("\x7f\xff\xff\xff"))}
	if _, _, err := e.Decode(); err == nil {
		t.Error("an event of 2 GB is read")
	}
}

// TestStreamStops stops a watch while it waits for the server.
func TestStreamStops(t *testing.T) {
	handler := &wireServer{t, true, make(chan string, 100)}
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	e := endpoint{client: clientOf(t, server.URL).core, codecs: newCodecs(), resource: "pods", kind: "Pod",
		empty: func() message {
			return new(corev1.Pod)
		}}
	f := newFeed(resource{reader: e}, sink.NewRecorder(), slog.New(slog.DiscardHandler))
	w, err := f.readStream(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	w.Stop()
	w.Stop()
	for range w.ResultChan() { // ends
	}
}

// BenchmarkDecodePod is what a pod costs before it is known whether policies need it.
func BenchmarkDecodePod(b *testing.B) {
	data := enveloped(b, "v1", "Pod", deployed(b))
	b.Run("trimmed", func(b *testing.B) {
		d := podDecoder()
		b.ReportAllocs()
		for b.Loop() {
			decoded(b, d, data)
		}
	})
	b.Run("whole", func(b *testing.B) {
		d := wireDecoder{others: newCodecs().UniversalDeserializer()}
		b.ReportAllocs()
		for b.Loop() {
			decoded(b, d, data)
		}
	})
}
