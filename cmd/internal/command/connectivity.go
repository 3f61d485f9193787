// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/connectivity/render"
	"github.com/netpold/netpold/translate/policy"
)

// connectivityFlags are the flags of `netpold connectivity`.
type connectivityFlags struct {
	objects                   Objects
	source, namespace, output string
}

// Connectivity returns the command `connectivity`, which gets the cluster from objects unless given -f.
func Connectivity(objects Objects) *cobra.Command {
	flags := connectivityFlags{objects: objects}
	cmd := &cobra.Command{
		Use:   "connectivity [-f DIR|FILE|-]",
		Short: "Show which workloads may talk to which, on which ports, and to which outside networks",
		Long: `Show which workloads may talk to which, on which ports, and to and from which outside
networks, by the text of the policies. It needs no root and no netpold on any node: pods, namespaces
and policies come from manifests, or without -f from the API server.

Workloads that policies treat alike are grouped: "shop/*" is every workload of a namespace. Traffic
that no policy can block is left out: a pod to itself, and a node to its own pods. Limits such as --max-ports of
"netpold run" are not applied.

The output is txt for a terminal, md for a pull request, json, dot for Graphviz, svg, or html: one
interactive file without external resources. In pictures, workloads that no policy isolates have no arrows:
they are open to all others that are not isolated either.

Exit status: 0, or 2 for an error.`,
		Example: `  kubectl get -A pods,namespaces,networkpolicies -o yaml > cluster.yaml
  netpold connectivity -f cluster.yaml
  netpold connectivity -n shop -o html > shop.html
  netpold connectivity -f manifests/ -o json | jq '.connections[] | select(.ports[].protocol == "all")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.print(cmd) },
	}
	AddSourceFlag(cmd, &flags.source, "default the API server")
	cmd.Flags().StringVarP(&flags.namespace, "namespace", "n", "",
		"show only connections from or to workloads of this namespace")
	formats := slices.Sorted(maps.Keys(render.Formats()))
	OneOf(&flags.output, formats...).Add(cmd, pflag.Flag{Name: "output", Shorthand: "o", DefValue: "txt",
		Usage: "one of " + strings.Join(formats, ", ")})
	objects.AddFlags(cmd)
	return cmd
}

func (f connectivityFlags) print(cmd *cobra.Command) error {
	cluster, err := f.cluster(cmd)
	if err != nil {
		return err
	}
	if err := KnownNamespace(cluster, f.namespace); err != nil {
		return err
	}
	m := connectivity.New(cluster)
	if len(m.Workloads) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "netpold: no pods found; connectivity is about pods")
	}
	view := render.New(m, f.namespace)
	if err := m.Err(); err != nil {
		return err
	}
	if err := render.Formats()[f.output](cmd.OutOrStdout(), view); err != nil {
		return fmt.Errorf("print the connectivity: %w", err)
	}
	return nil
}

// cluster reads manifests, or asks the API server.
func (f connectivityFlags) cluster(cmd *cobra.Command) (*policy.Cluster, error) {
	if f.source == "" {
		return f.objects.Fetch(cmd.Context())
	}
	return LoadOffline(cmd, f.source)
}
