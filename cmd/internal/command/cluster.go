// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/folder"
)

// Objects is where a command gets the cluster when it is given no manifests.
type Objects interface {
	AddFlags(*cobra.Command) // naming the API server; mutually exclusive with a single -f
	Fetch(context.Context) (*policy.Cluster, error)
}

// AddSourceFlag adds -f; without says what happens without it.
func AddSourceFlag(cmd *cobra.Command, source *string, without string) {
	cmd.Flags().VarP((*oneSource)(source), "filename", "f",
		"folder or file of manifests, YAML or JSON; - reads standard input ("+without+")")
}

// oneSource is a flag that may be given once: if the last of several won, policies would silently not count.
type oneSource string

func (s *oneSource) String() string { return string(*s) }
func (s *oneSource) Type() string   { return "string" }
func (s *oneSource) Set(source string) error {
	if *s != "" {
		return fmt.Errorf("only one folder or file can be read, and %s was already given", *s)
	}
	*s = oneSource(source)
	return nil
}

// Load reads manifests. The listed errors name what was left out.
func Load(source string, stdin io.Reader) (*policy.Cluster, []error, error) {
	if source == "-" {
		c, errs := folder.Read("standard input", stdin)
		return c, errs, nil
	}
	return folder.Load(source)
}

// LoadOffline reads manifests, and reports on standard error what is wrong with them.
func LoadOffline(cmd *cobra.Command, source string) (*policy.Cluster, error) {
	cluster, errs, err := Load(source, cmd.InOrStdin())
	if err != nil {
		return nil, err
	}
	for _, err := range append(errs, cluster.Faults()...) {
		fmt.Fprintln(cmd.ErrOrStderr(), "netpold:", err)
	}
	return cluster, nil
}

// KnownNamespace returns an error for a namespace that nothing is in, suggesting the nearest name.
func KnownNamespace(c *policy.Cluster, name string) error {
	if name == "" {
		return nil
	}
	names := slices.Collect(maps.Keys(c.Namespaces))
	for _, p := range c.Pods {
		names = append(names, p.Namespace)
	}
	if slices.Contains(names, name) {
		return nil
	}
	return fmt.Errorf("no namespace %s%s", name, policy.DidYouMean(name, names))
}
