// SPDX-License-Identifier: Apache-2.0

package render_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"testing"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/test/harness/random"
	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/connectivity/render"
	"github.com/netpold/netpold/translate/policy"
)

// distinct returns pods, each of which is open to about half of the others by its own policy.
func distinct(pods int) *policy.Cluster {
	c := &policy.Cluster{Namespaces: map[string]map[string]string{"a": {}}}
	for i := range pods {
		app := fmt.Sprint("app-", i)
		labels := map[string]string{"app": app}
		for bit := range 10 {
			labels[fmt.Sprint("bit-", bit)] = fmt.Sprint(i >> bit & 1)
		}
		c.Pods = append(c.Pods, policy.Pod{NamespacedName: types.NamespacedName{Namespace: "a", Name: app},
			Node: "node", Running: true, Labels: labels,
			IPs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}})
		np := &networkingv1.NetworkPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: app}}
		np.Spec.PodSelector.MatchLabels = map[string]string{"app": app}
		peer := &metav1.LabelSelector{MatchLabels: map[string]string{fmt.Sprint("bit-", i%10): fmt.Sprint(i / 10 % 2)}}
		own := &metav1.LabelSelector{MatchLabels: np.Spec.PodSelector.MatchLabels}
		np.Spec.Ingress = []networkingv1.NetworkPolicyIngressRule{{
			From: []networkingv1.NetworkPolicyPeer{{PodSelector: peer}, {PodSelector: own}}}}
		c.Policies = append(c.Policies, np)
	}
	return c
}

// heap counts the written bytes, and at some writes the live ones.
type heap struct{ written, writes, most uint64 }

func (h *heap) Write(p []byte) (int, error) {
	if h.writes++; h.writes%64 == 1 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		h.most = max(h.most, m.HeapAlloc)
	}
	h.written += uint64(len(p))
	return len(p), nil
}

// The output is never in memory as a whole: if policies treat each of 10,000 pods differently, it is 50 MB, and its
// parts several times that.
func TestWritesRowByRow(t *testing.T) {
	m := connectivity.New(distinct(900))
	view := render.New(m, "")
	gone := connectivity.Compare(connectivity.New(&policy.Cluster{}), m)
	formats := map[string]func(io.Writer) error{}
	for _, name := range []string{"txt", "md", "json"} {
		formats[name] = func(w io.Writer) error { return render.Formats()[name](w, view) }
		formats["diff "+name] = func(w io.Writer) error { return render.DiffFormats()[name](w, gone) }
	}
	for name, format := range formats {
		if err := format(io.Discard); err != nil { // names are worked out once
			t.Fatal(err)
		}
		var before, w heap
		_, _ = before.Write(nil)
		if err := format(&w); err != nil {
			t.Fatal(err)
		}
		grown := w.most - min(w.most, before.most)
		t.Logf("%s: %d kB written, at most %d kB more in memory", name, w.written>>10, grown>>10)
		if w.written < 1<<20 || grown > w.written/4 {
			t.Errorf("%s: %d bytes written, and up to %d more in memory meanwhile", name, w.written, grown)
		}
	}
	runtime.KeepAlive(view)
}

// JSON is written as an encoder would write the whole document.
func TestJSONIsAsTheEncoderWrites(t *testing.T) {
	for seed := range uint64(8) {
		c := random.Tiered(random.Source(seed), random.SizeOf(seed))
		m := connectivity.New(c)
		var view, diff bytes.Buffer
		if err := render.JSON(&view, render.New(m, "")); err != nil {
			t.Fatal(err)
		}
		if err := render.DiffJSON(&diff, connectivity.Compare(connectivity.New(&policy.Cluster{}), m)); err != nil {
			t.Fatal(err)
		}
		same(t, view.Bytes(), new(render.Document))
		same(t, diff.Bytes(), new(render.DiffDocument))
	}
}

// same: text is valid, and indented as by an encoder.
func same(t *testing.T, text []byte, document any) {
	t.Helper()
	if err := json.Unmarshal(text, &struct{}{}); err != nil {
		t.Fatalf("%T: %v", document, err)
	}
	var want bytes.Buffer
	if err := json.Indent(&want, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(want.Bytes(), text) {
		t.Errorf("%T is not as an encoder writes it:\n%s", document, text)
	}
}
