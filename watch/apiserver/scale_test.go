// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// TestScale compares the figures of docs/scale.md with the pod that they are about.
func TestScale(t *testing.T) {
	text, err := os.ReadFile("testdata/pod.json")
	if err != nil {
		t.Fatal(err)
	}
	var compact bytes.Buffer // managed fields are JSON in protobuf, too
	if err := json.Compact(&compact, text); err != nil {
		t.Fatal(err)
	}
	pod := new(corev1.Pod)
	if err := json.Unmarshal(compact.Bytes(), pod); err != nil {
		t.Fatal(err)
	}
	pod.APIVersion, pod.Kind = "", ""
	sent := enveloped(t, "v1", "Pod", pod)
	const length = 4 // goes before each event
	event := length + (&metav1.WatchEvent{Type: "MODIFIED", Object: runtime.RawExtension{Raw: sent}}).Size()
	metadata := (&metav1.PartialObjectMetadata{ObjectMeta: pod.ObjectMeta}).Size()
	kept := decoded(t, podDecoder(), sent).(*corev1.Pod).Size()
	page, err := os.ReadFile("../../docs/scale.md")
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Join(strings.Fields(string(page)), " ")
	const pods, nodes = 150_000, 5_000
	all, perSecond := float64(pods*pod.Size()), float64(event)
	for _, want := range []string{
		fmt.Sprintf("has %s bytes in protobuf, which netpold asks for, and %s in JSON; a watch event of it has %s",
			thousands(pod.Size()), thousands(compact.Len()), thousands(event)),
		fmt.Sprintf("150,000 × %.2f kB = %.2f GB | %.1f TB", float64(pod.Size())/1e3, all/1e9, all*nodes/1e12),
		fmt.Sprintf("| 50 pod events a second | %.1f MB/s | %.1f GB/s", 50*perSecond/1e6, 50*perSecond*nodes/1e9),
		fmt.Sprintf("| 500 pod events a second | %.1f MB/s | %.1f GB/s", 500*perSecond/1e6, 500*perSecond*nodes/1e9),
		fmt.Sprintf("start takes %d MB per node, and 50 events a second make %.0f MB/s", 10_000*pod.Size()/1e6,
			50*perSecond*200/1e6),
		fmt.Sprintf("%s of the %s bytes", thousands(metadata), thousands(pod.Size())),
		fmt.Sprintf("%d bytes of that pod", kept),
	} {
		if !strings.Contains(words, want) {
			t.Errorf("docs/scale.md does not say %q", want)
		}
	}
	if share := (pod.Size() + kept/2) / kept; share != 8 || !strings.Contains(words, "an eighth of the bytes") {
		t.Errorf("a pod has %d times the bytes of what is kept of it; docs/scale.md says something else", share)
	}
}

// thousands formats a number below a million as the pages do.
func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}
