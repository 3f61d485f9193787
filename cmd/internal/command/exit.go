// SPDX-License-Identifier: Apache-2.0

// Package command holds what netpold and kubectl-netpold share: the commands that need no daemon, and the printing of a
// daemon's answers. It touches no netlink, and builds wherever kubectl does.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
	"unicode"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/netpold/netpold/translate/policy"
)

// Exit codes, as grep(1)'s.
const (
	ExitNo    = 1 // the answer is no: denied, not in sync
	ExitError = 2 // there is no answer
)

// ErrNo ends a command whose answer, already printed, is no.
var ErrNo = errors.New("no") //nolint:gochecknoglobals // a sentinel error

// Yes returns nil if the answer is yes, and [ErrNo] otherwise.
func Yes(yes bool) error { //nolint:revive // the answer, not a mode
	if yes {
		return nil
	}
	return ErrNo
}

// Exit prints err, unless it is [ErrNo], and returns the exit code for it.
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

// Interrupted exits a second after ctx ends: a command that computes, or opens a pipe, does not look at ctx.
func Interrupted(ctx context.Context) {
	context.AfterFunc(ctx, func() {
		time.Sleep(time.Second)
		os.Exit(ExitError)
	})
}

// FlagError returns err, the error of cmd's flags, with the nearest name for an unknown one.
func FlagError(cmd *cobra.Command, err error) error {
	if invalid, ok := errors.AsType[*pflag.InvalidValueError](err); ok {
		if _, ok := invalid.GetFlag().Value.(Choice); ok {
			return fmt.Errorf("--%s=%s: %w", invalid.GetFlag().Name, invalid.GetValue(), invalid.Unwrap())
		}
	}
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) < 2 {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, "--"+f.Name)
		}
	})
	return fmt.Errorf("%w%s", err, policy.DidYouMean("--"+unknown.GetSpecifiedName(), names))
}

// PlainText returns text from elsewhere, such as a node or an API server, with "?" for whatever a terminal might act
// on.
func PlainText(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r >= 0x7f && r < 0xa0 ||
			r == '\u2028' || r == '\u2029' || unicode.Is(unicode.Bidi_Control, r) {
			return '?'
		}
		return r
	}, text)
}
