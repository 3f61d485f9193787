// SPDX-License-Identifier: Apache-2.0

package command_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/netpold/netpold/cmd/internal/command"
)

// TestExitPlain: what an API server says of an error does nothing to a terminal.
func TestExitPlain(t *testing.T) {
	var stderr strings.Builder
	code := command.Exit(&stderr, errors.New("pods is \x1b]0;owned\x07forbidden\u009b2J:\n  why"))
	if want := "netpold: pods is ?]0;owned?forbidden?2J:\n  why\n"; stderr.String() != want || code != 2 {
		t.Errorf("exit %d, printed %q, want %q", code, stderr.String(), want)
	}
}
