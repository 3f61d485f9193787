// SPDX-License-Identifier: Apache-2.0

// Package kubelet answers exec into pods like a kubelet, with a test's function in place of the command.
package kubelet

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
)

// Process is a command run in a pod. Its standard input ends when the client is gone.
type Process struct {
	Args           []string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
}

// ServeExec answers a request to run a command with standard input, output and error: run returns its exit code. It
// speaks SPDY; a client that asks for WebSocket first is refused, and asks again.
func ServeExec(w http.ResponseWriter, r *http.Request, run func(context.Context, Process) int) {
	if _, err := httpstream.Handshake(r, w, []string{"v4.channel.k8s.io"}); err != nil {
		return // the error was sent
	}
	streams := make(chan httpstream.Stream, 4)
	conn := spdy.NewResponseUpgrader().UpgradeResponse(w, r, func(s httpstream.Stream, replied <-chan struct{}) error {
		go func() {
			<-replied
			streams <- s
		}()
		return nil
	})
	if conn == nil { // no upgrade; the error was sent
		return
	}
	defer conn.Close() //nolint:errcheck // the client may be gone
	byType := make(map[string]httpstream.Stream)
	for range cap(streams) {
		select {
		case s := <-streams:
			byType[s.Headers().Get(corev1.StreamType)] = s
		case <-conn.CloseChan():
			return
		}
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	go func() {
		<-conn.CloseChan()
		cancel()
	}()
	code := run(ctx, Process{
		Args: r.URL.Query()["command"], Stdin: byType[corev1.StreamTypeStdin],
		Stdout: byType[corev1.StreamTypeStdout], Stderr: byType[corev1.StreamTypeStderr],
	})
	status := metav1.Status{Status: metav1.StatusSuccess}
	if code != 0 {
		status = metav1.Status{Status: metav1.StatusFailure, Reason: "NonZeroExitCode", Message: "command terminated",
			Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: "ExitCode",
				Message: strconv.Itoa(code)}}}}
	}
	_ = json.NewEncoder(byType[corev1.StreamTypeError]).Encode(status) // the client may be gone
}
