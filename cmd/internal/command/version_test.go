// SPDX-License-Identifier: Apache-2.0

package command

import (
	"runtime/debug"
	"testing"
)

func TestVersion(t *testing.T) {
	vcs := func(modified string) []debug.BuildSetting {
		return []debug.BuildSetting{
			{Key: "GOOS", Value: "linux"}, {Key: "vcs.revision", Value: "ede04ba0123456789abcdef"},
			{Key: "vcs.time", Value: "2026-11-21T20:58:00Z"}, {Key: "vcs.modified", Value: modified},
		}
	}
	const date = "2026-11-21T20:58:00Z"
	for want, build := range map[string]struct {
		version  string
		settings []debug.BuildSetting
	}{
		"devel go1.26.0": {},
		"v0.2.0 (commit ede04ba01234, " + date + ") go1.26.0":          {"v0.2.0", vcs("false")},
		"devel (commit ede04ba01234, modified, " + date + ") go1.26.0": {"(devel)", vcs("true")},
		"v0.2.1+dirty (commit ede04ba01234, " + date + ") go1.26.0":    {"v0.2.1+dirty", vcs("true")},
	} {
		info := debug.BuildInfo{GoVersion: "go1.26.0", Settings: build.settings}
		info.Main.Version = build.version
		if got := versionOf(&info); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
