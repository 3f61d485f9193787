// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/connectivity/render"
)

// diffFlags are the flags of `netpold diff`.
type diffFlags struct {
	sources        []string
	output, failOn string
}

// Diff returns the command `diff`.
func Diff() *cobra.Command {
	var flags diffFlags
	cmd := &cobra.Command{
		Use:   "diff -f OLD -f NEW",
		Short: "Show which connections are gained and lost between two sets of manifests",
		Long: `Show which connections workloads gain and lose between two sets of manifests, and which policies
cause it: for a pull request that changes policies. Policies are compared by what they mean, not by how they
are written. Both sets must include the pods.

Exit status: 0 no change, 1 some change, 2 error. With --fail-on, other changes than that exit with 0.`,
		Example: `  netpold diff -f cluster.yaml -f changed/
  netpold diff -f old/ -f new/ -o md --fail-on=gained`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.print(cmd) },
	}
	cmd.Flags().StringArrayVarP(&flags.sources, "filename", "f", nil,
		"folder or file of manifests, YAML or JSON; twice: the old ones, then the new ones (required)")
	cmd.Flags().StringVarP(&flags.output, "output", "o", "txt", "txt, md or json")
	cmd.Flags().StringVar(&flags.failOn, "fail-on", "any",
		"which changes make the exit status 1: gained, lost or any")
	_ = cmd.MarkFlagRequired("filename") // fails for a flag that is not there
	return cmd
}

func (f diffFlags) print(cmd *cobra.Command) error {
	format, known := render.DiffFormats()[f.output]
	switch {
	case !known:
		names := slices.Sorted(maps.Keys(render.DiffFormats()))
		return fmt.Errorf("--output=%s: want one of %s", f.output, strings.Join(names, ", "))
	case !slices.Contains([]string{"gained", "lost", "any"}, f.failOn):
		return fmt.Errorf("--fail-on=%s: want gained, lost or any", f.failOn)
	case len(f.sources) != 2:
		return fmt.Errorf("-f is given %d times: want it twice, for the old manifests and the new ones", len(f.sources))
	}
	var matrices [2]*connectivity.Matrix
	for i, source := range f.sources {
		cluster, err := LoadOffline(cmd, source)
		if err != nil {
			return err
		}
		matrices[i] = connectivity.New(cluster)
	}
	diff := connectivity.Compare(matrices[0], matrices[1])
	if err := format(cmd.OutOrStdout(), diff); err != nil {
		return fmt.Errorf("print what differs: %w", err)
	}
	if f.fails(diff) {
		return ErrNo
	}
	return nil
}

// fails says whether a diff has what the exit status is to say.
func (f diffFlags) fails(d *connectivity.Diff) bool {
	has := func(gained bool) bool { //nolint:revive // a fact, not a mode
		return slices.ContainsFunc(d.Changes, func(c connectivity.Change) bool { return c.Gained == gained })
	}
	switch f.failOn {
	case "gained":
		return has(true)
	case "lost":
		return has(false)
	}
	return len(d.Changes)+len(d.Added)+len(d.Removed) > 0
}
