// SPDX-License-Identifier: Apache-2.0

package command

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Choice is a flag that has one of a few values.
type Choice struct {
	value  *string
	values []string
}

// OneOf returns a flag for value, which has one of values.
func OneOf(value *string, values ...string) Choice { return Choice{value, values} }

// Add adds the flag to a command, and offers its values to the shell.
func (c Choice) Add(cmd *cobra.Command, flag pflag.Flag) {
	*c.value, flag.Value = flag.DefValue, c
	cmd.Flags().AddFlag(&flag)
	complete := cobra.FixedCompletions(c.values, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc(flag.Name, complete) // fails only for an unknown flag
}

// String returns the value.
func (c Choice) String() string { return *c.value }

// Type is what the help shows.
func (c Choice) Type() string { return "string" }

// Set sets the value.
func (c Choice) Set(value string) error {
	last := len(c.values) - 1
	switch {
	case slices.Contains(c.values, value):
		*c.value = value
		return nil
	case last > 2:
		return errors.New("want one of " + strings.Join(c.values, ", "))
	}
	return errors.New("want " + strings.Join(c.values[:last], ", ") + " or " + c.values[last])
}

// AddOutput adds --output, which is text or json.
func AddOutput(cmd *cobra.Command, output *string, usage string) {
	OneOf(output, "text", "json").Add(cmd, pflag.Flag{Name: "output", Shorthand: "o", DefValue: "text", Usage: usage})
}
