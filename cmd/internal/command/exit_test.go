// SPDX-License-Identifier: Apache-2.0

package command_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/netpold/netpold/cmd/internal/command"
)

// TestExitPlain: an API server's error text cannot control a terminal.
func TestExitPlain(t *testing.T) {
	var stderr strings.Builder
	code := command.Exit(&stderr, errors.New("pods is \x1b]0;owned\x07forbidden\u009b2J:\n  why"))
	if want := "netpold: pods is ?]0;owned?forbidden?2J:\n  why\n"; stderr.String() != want || code != 2 {
		t.Errorf("exit %d, printed %q, want %q", code, stderr.String(), want)
	}
}

// TestInterrupted: a command that ignores its context ends all the same.
func TestInterrupted(t *testing.T) {
	if os.Getenv("INTERRUPTED") != "" {
		ctx, interrupt := context.WithCancel(t.Context())
		command.Interrupted(ctx)
		interrupt()
		select {}
	}
	again := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInterrupted$")
	again.Env = append(os.Environ(), "INTERRUPTED=yes")
	var code *exec.ExitError
	if err := again.Run(); !errors.As(err, &code) || code.ExitCode() != command.ExitError {
		t.Errorf("it ended with %v, want exit code %d", err, command.ExitError)
	}
}
