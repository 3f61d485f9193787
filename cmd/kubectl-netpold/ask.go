// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/term"

	"github.com/netpold/netpold/cmd/internal/command"
)

// answer is what a node's netpold answered.
type answer struct {
	node   string
	stdout []byte
	err    error // why there is none
}

// atOnce is how many nodes are asked at a time.
const atOnce = 100

// ask runs netpold with args on the nodes of daemons at once, with the timeout for each, and returns the answers in
// their order. On a terminal it shows its progress.
func (c *cluster) ask(ctx context.Context, daemons []daemon, stderr io.Writer, args ...string) []answer {
	shown := newProgress(stderr, daemons)
	defer shown.end()
	left := new(atomic.Int64)
	left.Store(maxAnswers)
	answers := make([]answer, len(daemons))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, d := range daemons {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, c.timeout)
			defer cancel()
			out := &bounded{left: left, full: cancel}
			err := c.run(ctx, d, out, args...)
			answers[i] = answer{node: d.node}
			answers[i].stdout, answers[i].err = out.end(err)
			if errors.Is(err, context.DeadlineExceeded) {
				answers[i].err = fmt.Errorf("no answer within %s", c.timeout)
			}
			shown.answered(d.node)
			return nil
		})
	}
	_ = group.Wait() // none fails
	return answers
}

// decode reads the answers as JSON, one value for each node. An answer that is not JSON becomes the node's error.
func decode[T any](answers []answer) map[string]T {
	values := make(map[string]T)
	for i, a := range answers {
		if a.err != nil {
			continue
		}
		var v T
		if err := json.Unmarshal(a.stdout, &v); err != nil {
			answers[i].err = unreadable(err)
			continue
		}
		values[a.node] = v
	}
	return values
}

// unreadable is the error of a node whose answer makes no sense.
func unreadable(err error) error { return fmt.Errorf("unreadable answer: %w", err) }

// missing returns an error that names the nodes that did not answer, grouped by reason; nil if all did. For the exit
// status it outranks a no.
func missing(answers []answer) error {
	byReason := make(map[string][]string)
	silent := 0
	for _, a := range answers {
		if a.err != nil {
			silent++
			byReason[a.err.Error()] = append(byReason[a.err.Error()], a.node)
		}
	}
	if silent == 0 {
		return nil
	}
	text := []string{fmt.Sprintf("%d of %d nodes did not answer:", silent, len(answers))}
	for _, reason := range slices.Sorted(maps.Keys(byReason)) {
		text = append(text, strings.Join(byReason[reason], ", ")+": "+reason)
	}
	return errors.New(strings.Join(text, "\n  "))
}

// oneLine removes line ends and tabs from the strings in JSON answers, so that no node can write what looks like the
// line of another.
func oneLine(answers []answer) []answer {
	for i, a := range answers {
		answers[i].stdout = spaces(a.stdout)
	}
	return answers
}

// spaces returns JSON with spaces in place of line ends and tabs in its strings.
func spaces(text []byte) []byte {
	return []byte(strings.NewReplacer(`\\`, `\\`, `\n`, ` `, `\r`, ` `, `\t`, ` `,
		`\u000a`, ` `, `\u000A`, ` `, `\u000d`, ` `, `\u000D`, ` `, `\u0009`, ` `).Replace(string(text)))
}

// progress is a line on a terminal that names the nodes that have yet to answer.
type progress struct {
	mu      sync.Mutex
	w       io.Writer // nil if not a terminal
	total   int
	waiting []string // the nodes that have yet to answer
}

// newProgress shows nothing if w is not a terminal.
func newProgress(w io.Writer, daemons []daemon) *progress {
	p := &progress{total: len(daemons)}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		p.w = w
	}
	for _, d := range daemons {
		p.waiting = append(p.waiting, d.node)
	}
	p.show()
	return p
}

// answered takes a node off the line.
func (p *progress) answered(node string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting = slices.DeleteFunc(p.waiting, func(other string) bool { return other == node })
	p.show()
}

func (p *progress) show() {
	if p.w != nil {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K"+command.PlainText(p.text())) // best effort: only for show
	}
}

// text is the line, short enough for a terminal.
func (p *progress) text() string {
	const named = 3
	text := fmt.Sprintf("%d of %d nodes answered", p.total-len(p.waiting), p.total)
	if len(p.waiting) > 0 {
		text += ", waiting for " + strings.Join(p.waiting[:min(named, len(p.waiting))], ", ")
	}
	if more := len(p.waiting) - named; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// end erases the line.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.w != nil {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}
