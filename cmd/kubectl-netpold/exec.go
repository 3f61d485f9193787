// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
	"k8s.io/streaming/pkg/httpstream"

	"github.com/netpold/netpold/cmd/internal/command"
)

// run runs netpold with args in a daemon's pod until ctx ends, and writes its answer, be it yes or no, to stdout. An
// error says why there is no answer, without naming the node.
func (c *cluster) run(ctx context.Context, d daemon, stdout io.Writer, args ...string) error {
	if d.absent != "" {
		return errors.New(d.absent)
	}
	executor, err := c.executor(d, append([]string{"netpold", "--until-eof"}, args...))
	if err != nil {
		return err
	}
	// Nothing is written to it; closing it ends the process on the node.
	stdin, end := io.Pipe()
	defer end.Close() //nolint:errcheck // it never fails
	defer context.AfterFunc(ctx, func() { _ = end.Close() })()
	stderr := &head{left: maxComplaint}
	ended := make(chan error, 1)
	go func() { // dialling does not always end with ctx
		ended <- executor.StreamWithContext(ctx, remotecommand.StreamOptions{
			Stdin: stdin, Stdout: stdout, Stderr: stderr,
		})
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	var code exec.CodeExitError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.As(err, &code) && code.Code == command.ExitNo:
		return nil
	case errors.As(err, &code):
		return complaint(stderr.String(), code)
	case err != nil: // the server may quote what it was told
		return errors.New(line(err.Error()))
	}
	return nil
}

// complaint turns a failed command's stderr into an error.
func complaint(stderr string, code exec.CodeExitError) error {
	text := strings.TrimPrefix(strings.TrimSpace(stderr), "netpold: ")
	if strings.HasPrefix(text, "unknown ") {
		return fmt.Errorf("its netpold is older than this kubectl-netpold (%s)", line(text))
	}
	return errors.New(line(cmp.Or(text, code.Error())))
}

// line returns text as one line, cut where it is longer than anybody reads.
func line(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxComplaint {
		text = strings.ToValidUTF8(text[:maxComplaint], "") + "…"
	}
	return text
}

// executor runs a command in a daemon's pod, as kubectl exec does.
func (c *cluster) executor(d daemon, args []string) (remotecommand.Executor, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	core, err := c.core()
	if err != nil {
		return nil, err
	}
	url := core.RESTClient().Post().Resource("pods").Namespace(d.namespace).Name(d.pod).SubResource("exec").
		VersionedParams(&corev1.PodExecOptions{
			Container: daemonContainer, Command: args, Stdin: true, Stdout: true, Stderr: true,
		}, scheme.ParameterCodec).URL()
	spdy, err := remotecommand.NewSPDYExecutor(config, "POST", url)
	if err != nil {
		return nil, err
	}
	websocket, err := remotecommand.NewWebSocketExecutor(config, "GET", url.String())
	if err != nil {
		return nil, err
	}
	return remotecommand.NewFallbackExecutor(websocket, spdy, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	})
}

// Bounds of nodes' answers, in bytes: nodes must not be able to use up this computer's memory.
const (
	maxAnswer    = 128 << 20 // of a node
	maxAnswers   = 1 << 30   // of all nodes together
	valueCost    = 32        // added for each value, as a short one takes more memory than text
	maxComplaint = 1 << 10   // of an error
)

// bounded is the answer of a node. Writes after its end fail.
type bounded struct {
	left *atomic.Int64 // of what all nodes may answer
	full func()        // ends the node's command

	mu     sync.Mutex
	answer bytes.Buffer // not embedded: io.Copy would use its ReadFrom, which has no bound
	cost   int64
	err    error // why it accepts no more
}

// Write fails when the node, or all nodes, have answered too much.
func (b *bounded) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	cost := int64(len(p) + valueCost*(bytes.Count(p, []byte(","))+bytes.Count(p, []byte("\n"))))
	switch b.cost += cost; {
	case b.left.Add(-cost) < 0:
		b.err = errors.New("left out: together, the nodes' answers are too long")
	case b.cost > maxAnswer:
		b.err = errors.New("its answer is too long")
	default:
		return b.answer.Write(p)
	}
	b.full()
	return 0, b.err
}

// end returns the answer of a node whose command has ended with err, or why there is none.
func (b *bounded) end(err error) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	err = cmp.Or(b.err, err)
	if err == nil {
		b.err = io.ErrClosedPipe
		return b.answer.Bytes(), nil
	}
	b.left.Add(b.cost)
	b.err, b.cost, b.answer = io.ErrClosedPipe, 0, bytes.Buffer{}
	return nil, err
}

// head keeps the first bytes of what is written to it.
type head struct {
	mu   sync.Mutex
	text strings.Builder
	left int
}

// Write never fails: who writes is to go on.
func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	n, _ := h.text.Write(p[:min(len(p), h.left)])
	h.left -= n
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.ToValidUTF8(h.text.String(), "?")
}

// plain writes text that comes partly from nodes, without anything a terminal might act on.
type plain struct{ io.Writer }

// Write writes p, with "?" for what it must not print.
func (w plain) Write(p []byte) (int, error) {
	if _, err := io.WriteString(w.Writer, command.PlainText(string(p))); err != nil {
		return 0, err
	}
	return len(p), nil
}
