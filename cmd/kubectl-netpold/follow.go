// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/netpold/netpold/cmd/internal/command"
)

// Timing of --follow.
const (
	settle      = 500 * time.Millisecond // lines that arrive within this time are sorted
	maxTogether = 1000                   // lines that are sorted at once
	againAfter  = 5 * time.Second        // until a lost node is asked again
)

// follower asks all nodes for lines, and follows those to come.
type follower[T any] struct {
	*cluster
	args   []string // of the command that prints them
	read   func(node string, text []byte) (T, error)
	time   func(T) time.Time // zero: it has none
	stderr io.Writer
	newest map[string]time.Time // of the known lines, by node
	tell   sync.Mutex           // of stderr
}

// known returns the lines so far, and an error that names the nodes that did not answer.
func (f *follower[T]) known(ctx context.Context, daemons []daemon) ([]T, error) {
	answers := f.ask(ctx, daemons, f.stderr, f.args...)
	f.newest = make(map[string]time.Time)
	var all []T
	for i, a := range answers {
		for text := range bytes.Lines(a.stdout) {
			line, err := f.read(a.node, text)
			if err != nil {
				answers[i].err = unreadable(err)
				break
			}
			all = append(all, line)
			if t := f.time(line); t.After(f.newest[a.node]) {
				f.newest[a.node] = t
			}
		}
	}
	return all, missing(answers)
}

// printAll prints the lines so far and then those to come, until ctx ends. It returns [command.ErrNo] if there were
// none.
func (f *follower[T]) printAll(ctx context.Context, daemons []daemon, print func([]T) error) error {
	known, err := f.known(ctx, daemons)
	if err != nil {
		_, _ = fmt.Fprintln(f.stderr, "netpold:", command.PlainText(err.Error()))
	}
	if err := print(known); err != nil {
		return err
	}
	printed := len(known)
	err = f.run(ctx, daemons, func(more []T) error {
		printed += len(more)
		return print(more)
	})
	return cmp.Or(err, command.Yes(printed > 0))
}

// run follows the nodes of daemons until ctx ends or printing fails. A lost node is asked again, in the pod it has by
// then.
func (f *follower[T]) run(ctx context.Context, daemons []daemon, print func([]T) error) error {
	var followed sync.WaitGroup
	defer followed.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	lines := make(chan T)
	for _, d := range daemons {
		followed.Go(func() { f.follow(ctx, d, f.newest[d.node], lines) })
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case first := <-lines:
			if err := print(together(ctx, first, lines)); err != nil {
				return err
			}
		}
	}
}

// together returns a line and those that arrive soon after it.
func together[T any](ctx context.Context, first T, lines <-chan T) []T {
	all := []T{first}
	for over := time.After(settle); len(all) < maxTogether; {
		select {
		case line := <-lines:
			all = append(all, line)
		case <-over:
			return all
		case <-ctx.Done():
			return all
		}
	}
	return all
}

// follow sends a node's lines that are newer than newest until ctx ends, whatever happens to the node.
func (f *follower[T]) follow(ctx context.Context, d daemon, newest time.Time, lines chan<- T) {
	lost := ""
	for {
		printed := newest
		err := f.once(ctx, d, func(line T) {
			if t := f.time(line); !t.IsZero() && !t.After(printed) {
				return
			} else if t.After(newest) {
				newest = t
			}
			select {
			case lines <- line:
				lost = ""
			case <-ctx.Done():
			}
		})
		if ctx.Err() != nil {
			return
		}
		if text := err.Error(); text != lost {
			lost = text
			f.tell.Lock()
			lost := fmt.Sprintf("netpold: lost node %s, will retry: %s", d.node, line(text))
			_, _ = fmt.Fprintln(f.stderr, command.PlainText(lost))
			f.tell.Unlock()
		}
		select {
		case <-time.After(againAfter):
		case <-ctx.Done():
			return
		}
		d = f.again(ctx, d)
	}
}

// again returns the daemon of a node as it is now.
func (f *follower[T]) again(ctx context.Context, d daemon) daemon {
	ctx, cancel := context.WithTimeout(ctx, f.timeout)
	defer cancel()
	daemons, err := f.daemonsWhere(ctx, "spec.nodeName="+d.node)
	if i := slices.IndexFunc(daemons, func(other daemon) bool { return other.node == d.node }); i >= 0 {
		return daemons[i]
	}
	d.absent = noDaemon
	if err != nil && !errors.Is(err, errNoDaemons) {
		d.absent = err.Error()
	}
	return d
}

// once follows a node until it is lost, and returns why.
func (f *follower[T]) once(ctx context.Context, d daemon, each func(T)) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := f.cluster.run(ctx, d, in, append(slices.Clip(f.args), "--follow")...)
		ended <- cmp.Or(err, errors.New("its netpold ended"))
		_ = in.Close() // it never fails
	}()
	defer out.Close() //nolint:errcheck // it never fails
	text := bufio.NewScanner(out)
	text.Buffer(nil, maxLine)
	for text.Scan() {
		line, err := f.read(d.node, text.Bytes())
		if err != nil {
			return unreadable(err)
		}
		each(line)
	}
	if err := text.Err(); err != nil {
		return unreadable(err)
	}
	return <-ended
}

// maxLine bounds a line of a node, in bytes.
const maxLine = 1 << 20
