// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// process is a server that runs until it is killed.
type process struct {
	name string
	log  string // path of what it prints
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone
}

// start starts a server that appends its output to the file log. It dies with the thread.
func (t *thread) start(program, log string, args ...string) (*process, error) {
	name := filepath.Base(program)
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = []string{"HOME=" + filepath.Dir(log)} // etcd also takes flags from variables
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := t.do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name: name, log: log, cmd: cmd, done: make(chan struct{})}
	go func() {
		_ = cmd.Wait() // usually killed
		close(p.done)
	}()
	return p, nil
}

// kill ends the process as a crash would, and returns when it is gone: its sockets are closed and its port is free.
func (p *process) kill() error {
	if err := p.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill %s: %w", p.name, err)
	}
	<-p.done
	return nil
}

// ready waits until check succeeds. If the process ends first, it returns the end of the log.
func (p *process) ready(ctx context.Context, check func(context.Context) error) error {
	ended := false
	err := poll(ctx, func(ctx context.Context) error {
		select {
		case <-p.done:
			ended = true
			return nil
		default:
			return check(ctx)
		}
	})
	if ended {
		err = errors.New(p.cmd.ProcessState.String())
	}
	if err != nil {
		return fmt.Errorf("wait for %s: %w; it printed\n%s", p.name, err, tail(p.log))
	}
	return nil
}

// poll calls check until it succeeds or ctx ends, at growing intervals of 5 to 100 ms. It returns the last error of
// check.
func poll(ctx context.Context, check func(context.Context) error) error {
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, 100*time.Millisecond) {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w, after: %w", ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// tail returns the last lines of a log, 4 KiB at most.
func tail(log string) []byte {
	text, err := os.ReadFile(log)
	if err != nil {
		return []byte(err.Error())
	}
	if n := len(text) - 4096; n > 0 {
		_, text, _ = bytes.Cut(text[n:], []byte("\n"))
	}
	return text
}
