// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// VersionCommand returns the command `version`.
func VersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "netpold", Version())
			return err
		},
	}
}

// Version is what the build recorded, as in "v0.2.0 (commit 0123456789ab, 2026-11-21T20:58:00Z) go1.26.0".
func Version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	return versionOf(info)
}

// versionOf is Version for what a build recorded: the module's version, the commit and its date.
func versionOf(info *debug.BuildInfo) string {
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	text := info.Main.Version
	if text == "" || text == "(devel)" {
		text = "devel"
	}
	if commit := settings["vcs.revision"]; commit != "" {
		commit = "commit " + commit[:min(12, len(commit))]
		if settings["vcs.modified"] == "true" && !strings.HasSuffix(text, "+dirty") {
			commit += ", modified"
		}
		text += fmt.Sprintf(" (%s, %s)", commit, settings["vcs.time"])
	}
	return text + " " + info.GoVersion
}
