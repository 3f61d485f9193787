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
	"github.com/netpold/netpold/translate/policy"
)

// connectivityFlags are the flags of `netpold connectivity`.
type connectivityFlags struct {
	objects                   Objects
	source, namespace, output string
}

// Connectivity returns the command `connectivity`, which has the cluster from objects unless there is -f.
func Connectivity(objects Objects) *cobra.Command {
	flags := connectivityFlags{objects: objects}
	cmd := &cobra.Command{
		Use:   "connectivity [-f DIR|FILE|-]",
		Short: "Show which workloads may talk to which, on which ports, and to which outside networks",
		Long: `Show which workloads may talk to which, on which ports, and to and from which outside
networks, by the policies' own text. It needs no root and no netpold on any node: pods, namespaces and
policies come from manifests, or without -f from the API server.

Workloads of which policies treat all pods alike are taken together: "shop/*" is every workload of a
namespace. What policies cannot block is left out: a pod to itself, and a node to its own pods. Limits
(--max-ports of "netpold run" and the others) are not applied.

The output is txt for a terminal, md for a pull request, json, dot for Graphviz, svg, or html: one file
with a picture to click on, which loads nothing from anywhere. In pictures, what no policy isolates has no
arrows: it is open to everything that is.

Exit status: 0, or 2 for an error.`,
		Example: `  kubectl get -A pods,namespaces,networkpolicies -o yaml > cluster.yaml
  netpold connectivity -f cluster.yaml
  netpold connectivity -n shop -o html > shop.html
  netpold connectivity -f manifests/ -o json | jq '.connections[] | select(.ports[].protocol == "all")'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.print(cmd) },
	}
	cmd.Flags().StringVarP(&flags.source, "filename", "f", "",
		"folder or file of manifests, YAML or JSON; - reads standard input (default the API server)")
	cmd.Flags().StringVarP(&flags.namespace, "namespace", "n", "",
		"show only what concerns workloads of this namespace")
	cmd.Flags().StringVarP(&flags.output, "output", "o", "txt", "one of "+strings.Join(formatNames(), ", "))
	objects.AddFlags(cmd)
	return cmd
}

// formatNames returns the formats that --output takes.
func formatNames() []string { return slices.Sorted(maps.Keys(render.Formats())) }

func (f connectivityFlags) print(cmd *cobra.Command) error {
	format, known := render.Formats()[f.output]
	if !known {
		return fmt.Errorf("--output=%s: want one of %s", f.output, strings.Join(formatNames(), ", "))
	}
	cluster, err := f.cluster(cmd)
	if err != nil {
		return err
	}
	if err := KnownNamespace(cluster, f.namespace); err != nil {
		return err
	}
	m := connectivity.New(cluster)
	if len(m.Workloads) == 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), "netpold: no pods found: connectivity is about pods")
	}
	if err := format(cmd.OutOrStdout(), render.New(m, f.namespace)); err != nil {
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
