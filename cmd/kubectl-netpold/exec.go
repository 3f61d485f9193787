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
	var stderr bounded
	ended := make(chan error, 1)
	go func() { // dialling does not always end with ctx
		ended <- executor.StreamWithContext(ctx, remotecommand.StreamOptions{
			Stdin: stdin, Stdout: stdout, Stderr: &stderr,
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
	}
	return err
}

// complaint turns a failed command's stderr into an error.
func complaint(stderr string, code exec.CodeExitError) error {
	text := strings.TrimPrefix(strings.TrimSpace(stderr), "netpold: ")
	if strings.HasPrefix(text, "unknown ") {
		return fmt.Errorf("its netpold is older than this kubectl-netpold (%s)", text)
	}
	return errors.New(cmp.Or(text, code.Error()))
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

// maxAnswer bounds a node's answer, in bytes: a node must not be able to use up this computer's memory.
const maxAnswer = 64 << 20

// bounded is a buffer of up to maxAnswer bytes.
type bounded struct{ bytes.Buffer }

// Write fails when the buffer is full.
func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > maxAnswer {
		return 0, errors.New("the answer is too long")
	}
	return b.Buffer.Write(p)
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
