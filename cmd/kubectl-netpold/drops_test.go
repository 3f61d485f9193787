// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/test/harness/kubelet"
)

// lineAt is a line of `netpold drops -o json`.
func lineAt(second int, what string) string {
	quoted, _ := json.Marshal(what) // no string fails
	return fmt.Sprintf(`{"time": "2026-11-22T01:00:%02dZ", "src": {"address": "10.0.2.1"},
		"dst": {"address": "10.0.1.1"}, "text": %s}`, second, quoted)
}

func lines(all ...string) string {
	text := ""
	for _, l := range all {
		text += strings.ReplaceAll(l, "\n", "") + "\n"
	}
	return text
}

// TestDrops merges the nodes' lines by time.
func TestDrops(t *testing.T) {
	t.Setenv("TZ", "UTC")
	s := newServer(t, daemons, shop)
	s.answers("node-1", lines(lineAt(1, "a"), lineAt(3, "c\x1b]0;")), 0)
	s.answers("node-2", lines(lineAt(2, "b"), lineAt(4, "d")), 0)
	stdout, _, exit := s.run("drops", "-n", "shop")
	var got []string
	for l := range strings.Lines(stdout) {
		_, after, _ := strings.Cut(l, " ")
		_, after, _ = strings.Cut(after, " ")
		got = append(got, after)
	}
	want := []string{"node-1 a\n", "node-2 b\n", "node-1 c?]0;\n", "node-2 d\n"}
	if exit != 0 || !slices.Equal(got, want) {
		t.Errorf("exit %d, got %q, want %q", exit, got, want)
	}
	if asked := <-s.asked; !slices.Contains(asked, "--namespace=shop") || slices.Contains(asked, "--follow") {
		t.Errorf("asked %q", asked)
	}
	s.expect(0, "drops -o json", `{"node":"node-2","time":"2026-11-22T01:00:02Z"`)
	s.answers("node-2", "", command.ExitNo)
	s.expect(0, "drops", "node-1 a")
	s.answers("node-1", "", command.ExitNo)
	s.expect(command.ExitNo, "drops")
	s.answers("node-1", "netpold: no namespace shpo (did you mean shop?)\n", command.ExitError)
	s.expect(command.ExitError, "drops -n shpo", "no namespace shpo (did you mean shop?)")
	s.answers("node-1", lines(lineAt(1, "a"), "nonsense"), 0)
	s.expect(command.ExitError, "drops", "node-1: unreadable answer")
	s.expect(command.ExitError, "drops -o yaml", "--output=yaml: want text or json")
}

// TestTop shows who was blocked most on any node.
func TestTop(t *testing.T) {
	s := newServer(t, daemons, shop)
	pairs := func(counts ...int) string {
		var all []string
		for _, n := range counts {
			all = append(all, fmt.Sprintf(`{"src": {"address": "10.0.2.1"}, "dst": {"pod": "shop/db-%d"}, "count": %d}`,
				n, n))
		}
		return fmt.Sprintf(`{"packets": 10, "pairs": [%s]}`, strings.Join(all, ","))
	}
	s.answers("node-1", pairs(9, 5), 0)
	s.answers("node-2", pairs(7, 1), 0)
	s.expect(0, "drops --top 3", "NODE    PACKETS", "node-1  9", "node-2  7", "node-1  5", "not: shop/db-1 ")
	s.expect(0, "drops --top=1 -o json", `"packets":20`, `"node":"node-1"`, "not: node-2")
	s.answers("node-1", pairs(), command.ExitNo)
	s.answers("node-2", pairs(), command.ExitNo)
	s.expect(command.ExitNo, "drops --top")
}

// TestFollow: a lost node is named and asked again, and no line comes twice.
func TestFollow(t *testing.T) {
	s := newServer(t, daemons, shop)
	var tries int
	s.runs("node-1", func(_ context.Context, p kubelet.Process) int {
		text := lines(lineAt(1, "old"))
		if slices.Contains(p.Args, "--follow") {
			tries++
			text = lines(lineAt(1, "old"), lineAt(1+tries, fmt.Sprint("new ", tries)))
		}
		_, _ = io.WriteString(p.Stdout, text)
		return 0
	})
	s.runs("node-2", func(_ context.Context, p kubelet.Process) int {
		_, _ = io.WriteString(p.Stdout, lines(lineAt(2, "other")))
		if slices.Contains(p.Args, "--follow") {
			_, _ = io.Copy(io.Discard, p.Stdin)
		}
		return 0
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	root := rootCommand()
	out := &watched{until: "new 2", done: cancel}
	var told strings.Builder
	root.SetArgs([]string{"drops", "--follow", "--kubeconfig", s.kubeconfig})
	root.SetOut(out)
	root.SetErr(&told)
	if err := root.ExecuteContext(ctx); err != nil {
		t.Error(err)
	}
	for _, once := range []string{"old", "other", "new 1", "new 2"} {
		if n := strings.Count(out.text.String(), once); n != 1 {
			t.Errorf("%d lines %q in\n%s", n, once, out.text.String())
		}
	}
	want := "netpold: lost node node-1, will retry: its netpold ended\n"
	if !strings.Contains(told.String(), want) || strings.Contains(told.String(), "node-2") {
		t.Errorf("told %q, want %q", told.String(), want)
	}
}

// watched calls done when a text was written.
type watched struct {
	mu    sync.Mutex
	text  strings.Builder
	until string
	done  func()
}

// Write writes.
func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n, err := w.text.Write(p)
	if strings.Contains(w.text.String(), w.until) {
		w.done()
	}
	return n, err
}

// TestTogether: lines that come shortly after each other are put in order, and do not wait for others.
func TestTogether(t *testing.T) {
	more := make(chan nodeLine, 1)
	more <- nodeLine{node: "b"}
	if got := together(t.Context(), nodeLine{node: "a"}, more); len(got) != 2 {
		t.Errorf("got %v", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if got := together(ctx, nodeLine{node: "a"}, nil); len(got) != 1 {
		t.Errorf("got %v", got)
	}
}

// TestProgress names the nodes that have yet to answer, and then removes the line.
func TestProgress(t *testing.T) {
	var daemons []daemon
	for i := range 6 {
		daemons = append(daemons, daemon{node: fmt.Sprint("node-", i)})
	}
	p := newProgress(io.Discard, daemons)
	if p.w != nil {
		t.Error("shown where nobody looks")
	}
	var out strings.Builder
	p.w = &out
	for i := range 5 {
		p.answered(fmt.Sprint("node-", i))
	}
	p.end()
	for _, want := range []string{
		"\r\x1b[K1 of 6 nodes answered, waiting for node-1, node-2, node-3 and 2 more\r",
		"5 of 6 nodes answered, waiting for node-5\r\x1b[K",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %q", want, out.String())
		}
	}
	if !strings.HasSuffix(out.String(), "\r\x1b[K") {
		t.Errorf("the line stays: %q", out.String())
	}
}

// TestMissing names nodes with the same reason together.
func TestMissing(t *testing.T) {
	late := fmt.Errorf("no answer within %s", time.Second)
	err := missing([]answer{{node: "a", err: late}, {node: "b"}, {node: "c", err: late}, {node: "d", err: io.EOF}})
	want := "3 of 4 nodes did not answer:\n  d: EOF\n  a, c: no answer within 1s"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := missing([]answer{{node: "a"}}); err != nil {
		t.Error(err)
	}
}
