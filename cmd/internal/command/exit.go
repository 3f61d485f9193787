// SPDX-License-Identifier: Apache-2.0

// Package command is what netpold and kubectl-netpold have in common: the commands that need no daemon, and how those
// that ask one print its answer. It touches no netlink, and builds wherever kubectl does.
package command

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Exit codes, as grep(1)'s.
const (
	ExitNo    = 1 // the answer is no: denied, not in sync
	ExitError = 2 // there is no answer
)

// ErrNo ends a command whose answer, already printed, is no.
var ErrNo = errors.New("no") //nolint:gochecknoglobals // a sentinel error

// Yes returns nil for the answer yes, and else [ErrNo].
func Yes(yes bool) error { //nolint:revive // the answer, not a mode
	if yes {
		return nil
	}
	return ErrNo
}

// CheckOutput returns an error for a format that is not text or json.
func CheckOutput(format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("--output=%s: want text or json", format)
	}
	return nil
}

// Exit returns the exit code of a command that has ended with err, and prints what is wrong.
func Exit(stderr io.Writer, err error) int {
	switch {
	case errors.Is(err, ErrNo):
		return ExitNo
	case err != nil:
		fmt.Fprintln(stderr, "netpold:", PlainText(err.Error()))
		return ExitError
	}
	return 0
}

// PlainText returns text that others have said, as a node or an API server, with "?" for what a terminal might act on.
func PlainText(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 {
			return '?'
		}
		return r
	}, text)
}
