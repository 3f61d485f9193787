// SPDX-License-Identifier: Apache-2.0

package command

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/connectivity/render"
	"github.com/netpold/netpold/translate/policy"
)

// diffFlags are the flags of `netpold diff`.
type diffFlags struct {
	objects        Objects // nil: both sets must be given
	sources        []string
	output, failOn string
}

// Diff returns the command `diff`. With objects, one -f is enough: it shows what that cluster would gain and lose.
func Diff(objects Objects) *cobra.Command {
	flags := diffFlags{objects: objects}
	cmd := &cobra.Command{
		Use:   "diff -f OLD -f NEW",
		Short: "Show which connections are gained and lost between two sets of manifests",
		Long: `Show which connections workloads gain and lose between two sets of manifests, and which policies
cause it: for reviewing a pull request that changes policies. Policies are compared by what they mean, not by how they
are written. Both sets must include the pods.

Exit status: 0 no change, 1 some change, 2 error. With --fail-on, all other changes exit with 0.`,
		Example: `  netpold diff -f cluster.yaml -f changed/
  netpold diff -f old/ -f new/ -o md --fail-on=gained`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.print(cmd) },
	}
	cmd.Flags().StringArrayVarP(&flags.sources, "filename", "f", nil,
		"folder or file of manifests, YAML or JSON; twice: the old ones, then the new ones (required)")
	OneOf(&flags.output, "txt", "md", "json").Add(cmd, pflag.Flag{Name: "output", Shorthand: "o", DefValue: "txt",
		Usage: "txt, md or json"})
	OneOf(&flags.failOn, "gained", "lost", "any").Add(cmd, pflag.Flag{Name: "fail-on", DefValue: "any",
		Usage: "which changes make the exit status 1: gained, lost or any"})
	_ = cmd.MarkFlagRequired("filename") // fails only for an unknown flag
	if objects != nil {
		cmd.Use = "diff [-f OLD] -f NEW"
		cmd.Long += `

With one -f, it compares the API server's cluster with the same cluster after these manifests are applied.`
		cmd.Example = "  netpold diff -f changed/\n" + cmd.Example
	}
	return cmd
}

func (f diffFlags) print(cmd *cobra.Command) error {
	switch {
	case len(f.sources) != 2 && (f.objects == nil || len(f.sources) != 1):
		return fmt.Errorf("-f given %s: want it twice, the old manifests and then the new ones",
			counted(len(f.sources), "time", "times"))
	case len(f.sources) == 2 && f.sources[0] == "-" && f.sources[1] == "-":
		return errors.New("-f - given twice: standard input can be read once")
	}
	before, after, err := f.clusters(cmd)
	if err != nil {
		return err
	}
	for i, c := range []*policy.Cluster{before, after} {
		if len(c.Pods) == 0 {
			fmt.Fprintf(cmd.ErrOrStderr(), "netpold: no pods found in %s; connectivity is about pods\n",
				[]string{"OLD", "NEW"}[i])
		}
	}
	was, is := connectivity.New(before), connectivity.New(after)
	diff := connectivity.Compare(was, is)
	if err := cmp.Or(was.Err(), is.Err()); err != nil {
		return err
	}
	if err := render.DiffFormats()[f.output](cmd.OutOrStdout(), diff); err != nil {
		return fmt.Errorf("print the diff: %w", err)
	}
	if f.fails(diff) {
		return ErrNo
	}
	return nil
}

// clusters returns the two clusters to compare.
func (f diffFlags) clusters(cmd *cobra.Command) (before, after *policy.Cluster, err error) {
	after, err = LoadOffline(cmd, f.sources[len(f.sources)-1])
	if err != nil {
		return nil, nil, err
	}
	if len(f.sources) == 2 {
		before, err = LoadOffline(cmd, f.sources[0])
		return before, after, err
	}
	if before, err = f.objects.Fetch(cmd.Context()); err != nil {
		return nil, nil, err
	}
	return before, apply(before, after), nil
}

// apply returns c after the objects of changes are applied to it. A namespace whose only label is its name was not in
// the manifests.
func apply(c, changes *policy.Cluster) *policy.Cluster {
	next := *c
	next.Namespaces, next.Modes = make(map[string]map[string]string), make(map[string]string)
	maps.Copy(next.Namespaces, c.Namespaces)
	maps.Copy(next.Modes, c.Modes)
	for name, labels := range changes.Namespaces {
		if _, known := c.Namespaces[name]; known && len(labels) < 2 {
			continue
		}
		next.Namespaces[name] = labels
		delete(next.Modes, name)
		if mode, ok := changes.Modes[name]; ok {
			next.Modes[name] = mode
		}
	}
	next.Pods = replace(c.Pods, changes.Pods, func(p policy.Pod) string { return p.String() })
	next.Policies = replace(c.Policies, changes.Policies, func(np *networkingv1.NetworkPolicy) string {
		return np.Namespace + "/" + np.Name
	})
	next.ClusterPolicies = replace(c.ClusterPolicies, changes.ClusterPolicies, func(p policy.ClusterPolicy) string {
		return p.Name
	})
	return &next
}

// replace returns all with changes in place of the objects of the same names.
func replace[T any](all, changes []T, name func(T) string) []T {
	changed := make(map[string]bool)
	for _, o := range changes {
		changed[name(o)] = true
	}
	kept := slices.DeleteFunc(slices.Clone(all), func(o T) bool { return changed[name(o)] })
	return append(kept, changes...)
}

// fails says whether d has a change that --fail-on asks about.
func (f diffFlags) fails(d *connectivity.Diff) bool {
	if f.failOn == "any" {
		return len(d.Changes)+len(d.Added)+len(d.Removed) > 0
	}
	gained := f.failOn == "gained"
	return slices.ContainsFunc(d.Changes, func(c connectivity.Change) bool { return c.Gained == gained })
}
