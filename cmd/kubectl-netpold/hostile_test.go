// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/test/harness/kubelet"
	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/explain"
)

// endless never ends.
type endless byte

func (e endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = byte(e)
	}
	return len(p), nil
}

// TestEndless: a node with an endless answer is named, and the others are shown.
func TestEndless(t *testing.T) {
	s := newServer(t, daemons, shop)
	s.answers("node-1", "{}", 0)
	s.runs("node-2", func(_ context.Context, p kubelet.Process) int {
		_, _ = io.Copy(p.Stdout, endless(','))
		return 0
	})
	s.expect(command.ExitError, "status --timeout 5m", "node-1  no", "node-2  ?", "node-2: its answer is too long")
	s.runs("node-2", func(_ context.Context, p kubelet.Process) int {
		_, _ = io.Copy(p.Stderr, io.LimitReader(endless('x'), 10*maxComplaint))
		return command.ExitError
	})
	s.expect(command.ExitError, "status", "node-2: "+strings.Repeat("x", maxComplaint)+"\n")
}

// TestAnswersTogether: the answers of all nodes are bounded together. What some nodes do not use, others may.
func TestAnswersTogether(t *testing.T) {
	left := new(atomic.Int64)
	left.Store(2*maxAnswer + 10)
	full := 0
	write := func(size int64, end error) (int, error) {
		b := &bounded{left: left, full: func() { full++ }}
		_, _ = io.Copy(b, io.LimitReader(endless(' '), size))
		text, err := b.end(end)
		if _, late := b.Write([]byte("x")); late == nil {
			t.Error("it takes more after its end")
		}
		return len(text), err
	}
	failed := errors.New("it failed")
	for i, c := range []struct {
		size int64
		end  error
		text int
		want string
	}{
		{2 * maxAnswer, nil, 0, "its answer is too long"},
		{maxAnswer, failed, 0, failed.Error()},
		{maxAnswer, nil, maxAnswer, ""},
		{maxAnswer - 10, nil, maxAnswer - 10, ""},
		{21, nil, 0, "left out: together, the nodes' answers are too long"},
		{20, nil, 20, ""},
	} {
		n, err := write(c.size, c.end)
		if n != c.text || err == nil && c.want != "" || err != nil && err.Error() != c.want {
			t.Errorf("%d: %d bytes, %v; want %d, %s", i, n, err, c.text, c.want)
		}
	}
	if full != 2 {
		t.Errorf("ended %d commands, want 2", full)
	}
	b := &bounded{left: left, full: func() {}}
	left.Store(valueCost)
	if _, err := io.Copy(b, iotest.DataErrReader(bytes.NewReader([]byte("[,]")))); err == nil {
		t.Error("values cost nothing")
	}
}

// TestForged: a node's text is never mistaken for that of another node, or of this program.
func TestForged(t *testing.T) {
	s := newServer(t, daemons, shop)
	const forged = "x\nnode-2  yes\tfine\u2028node-2  yes\u202egpj"
	s.answers("node-1", text(t, watch.Report{Version: forged, Source: watch.SourceReport{Name: forged},
		Policies: watch.PoliciesReport{Troubles: []watch.TroubleReport{{Kind: forged, Reason: forged}}}}), 0)
	s.answers("node-2", "it is\x1b[2J\nnode-1: fine\n", command.ExitError)
	s.expect(command.ExitError, "status", "292y  x node-2  yes fine?node-2  yes?gpj\n", "not: \nnode-2  yes",
		"node-2: it is?[2J node-1: fine\n", "not: \nnode-1: fine")
	s.answers("node-1", text(t, watch.PolicyReport{Reason: forged}), 0)
	s.expect(command.ExitNo, "status shop/db", "no: x node-2  yes fine?", "not: \nnode-2  yes")
	s.answers("node-1", `{"time": "2026-11-22T09:00:00Z", "text": "x\nnode-2 y\u000Anode-2 z\\n"}`, 0)
	s.expect(command.ExitError, "drops", "node-1 x node-2 y node-2 z\\n\n", "not: \x1b", "not: \nnode-1: fine")
	s.answers("node-2", text(t, explain.Answer{Flows: []explain.FlowText{{Text: "Node node-1 says:\nno\nno\n"}}}), 0)
	s.answers("node-1", `null`, 0)
	s.expect(command.ExitNo, "explain --verify shop/web-1 shop/db-0:5432",
		"Node node-2 says:\n  Node node-1 says:\n  no\n  no\n")
}

// TestGarbage: whatever a node answers, it is shown or ignored.
func TestGarbage(t *testing.T) {
	s := newServer(t, daemons, shop)
	for _, said := range []string{"", "null", "[]", "0", "{}", "{", `"x"`, "[null]\n", "{}\n{}\n", "\n\n", "\xff\xfe",
		"\x00",
		`{"flows": [{}, null], "pairs": [{}, null], "policies": {"troubles": [null]}, "preflight": [null],
			"pods": null, "spec": {"ingress": [null]}, "record": null, "missed": -1}`,
		`{"inForce": true, "inSync": true, "synced": true}`, `{"since": "9999-12-31T23:59:59Z", "packets": 1e400}`,
		strings.Repeat("[", 20_000), strings.Repeat(`{"spec":`, 20_000), strings.Repeat("\n", 1<<20)} {
		for _, code := range []int{0} {
			s.answers("node-1", said, code)
			s.answers("node-2", said, code)
			for _, args := range []string{"status", "status shop/all", "status -o json", "drops", "drops --top 3",
				"flows", "flows -o json", "suggest -n shop", "explain --verify shop/web-1 shop/db-0:5432"} {
				s.expectAny(args)
			}
		}
	}
}

// expectAny runs a command that must end, whatever it prints.
func (s *server) expectAny(args string) {
	stdout, stderr, exit := s.run(strings.Fields(args)...)
	for len(s.asked) > 0 {
		<-s.asked
	}
	if exit < 0 || exit > command.ExitError || len(stdout)+len(stderr) > 1<<20 {
		s.Errorf("%s: exit %d, %d bytes", args, exit, len(stdout)+len(stderr))
	}
}
