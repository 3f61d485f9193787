// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/netpold/netpold/nft"
	"github.com/netpold/netpold/nft/kernel"
	"github.com/netpold/netpold/test/harness/netns"
	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/frame"
	"github.com/netpold/netpold/watch"
)

// observedKernel is the kernel, and reports its commits.
type observedKernel struct {
	*kernel.Conn
	commits chan time.Time // when a transaction of the table was committed
}

// Apply commits, and records when it was done.
func (k observedKernel) Apply(ctx context.Context, tx *nft.Transaction) (nft.Result, error) {
	result, err := k.Conn.Apply(ctx, tx)
	if err == nil && tx.Table == frame.TableName {
		k.commits <- time.Now()
	}
	return result, err
}

// runningLoop is a loop running on a kernel, in its own network namespace.
type runningLoop struct {
	*watch.Loop
	kernel observedKernel
}

// withLoop starts a loop for the state and calls use with it. Then it ends the loop and removes the rules.
func withLoop(ctx context.Context, state *translate.State, use func(*runningLoop) error) error {
	return thread(func() error {
		space, err := netns.New()
		if err != nil {
			return err
		}
		defer closeQuietly(space)
		conn, err := kernel.Open(kernel.Config{Own: true})
		if err != nil {
			return err
		}
		defer closeQuietly(conn)
		l := &runningLoop{kernel: observedKernel{conn, make(chan time.Time, 1<<16)}}
		l.Loop = watch.NewLoop(state, watch.LoopConfig{
			Kernel: l.kernel, Log: slog.New(slog.DiscardHandler), Node: nodeName, Source: "bench",
		})
		ctx, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			l.Run(ctx)
		}()
		defer func() { cancel(); <-ended }()
		return errors.Join(use(l), conn.DeleteTable(ctx, frame.TableName))
	})
}

// start reports that the source is synced, and returns the time until the rules are in force.
func (l *runningLoop) start() (time.Duration, error) {
	begin := time.Now()
	l.Synced()
	for time.Since(begin) < time.Minute {
		switch s := l.Status(); {
		case s.LastError != nil:
			return 0, s.LastError
		case s.Transactions > 0:
			took := time.Since(begin)
			l.settle()
			return took, nil
		}
		time.Sleep(100 * time.Microsecond)
	}
	return 0, errors.New("the rules are not in force after a minute")
}

// event makes a change and returns the time until the kernel has it.
func (l *runningLoop) event(edit func(watch.Objects)) (time.Duration, error) {
	for quiet := time.Now(); !l.Status().InSync && time.Since(quiet) < time.Second; {
		time.Sleep(100 * time.Microsecond) // what the last one retired is deleted some time after it
	}
	l.settle()
	begin := time.Now()
	l.Update(edit)
	select {
	case at := <-l.kernel.commits:
		return at.Sub(begin), nil
	case <-time.After(10 * time.Second):
		return 0, fmt.Errorf("nothing is committed after 10 s; %+v", l.Status())
	}
}

// settle forgets what has been committed so far.
func (l *runningLoop) settle() {
	for {
		select {
		case <-l.kernel.commits:
		default:
			return
		}
	}
}
