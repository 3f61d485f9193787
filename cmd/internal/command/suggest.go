// SPDX-License-Identifier: Apache-2.0

package command

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/netpold/netpold/translate/connectivity"
	"github.com/netpold/netpold/translate/connectivity/render"
	"github.com/netpold/netpold/translate/flows"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/translate/suggest"
)

// Seen fetches the observed connections when no file has them.
type Seen func(context.Context) ([]flows.Flow, error)

// suggestFlags are the flags of `netpold suggest`.
type suggestFlags struct {
	objects             Objects
	seen                Seen
	sources             []string
	namespace, external string
}

// Suggest returns the command `suggest`. What no -f gives comes from objects and seen: the cluster, and the observed
// connections.
func Suggest(objects Objects, seen Seen) *cobra.Command {
	flags := suggestFlags{objects: objects, seen: seen}
	cmd := &cobra.Command{
		Use:   "suggest -n NAMESPACE [-f FLOWS] [-f MANIFESTS]",
		Short: "Suggest policies that allow what was observed, and isolate the rest",
		Long: `Suggest NetworkPolicies for a namespace: one for ingress and one for egress of each workload, which
allow the connections that were observed ("netpold run --observe") and isolate the rest. Connections that
policies already allow, or that were denied, are not suggested. A comment on each rule says how often its
connections were seen, and when the last one was.

Before it prints anything, it replays every observed connection against the result. Standard error lists
those that would be blocked, and the connections gained and lost between workloads, as "netpold diff" does.

Without -f, flows come from the daemon on this node, and objects from the API server. -f names either: output
of "netpold flows -o json", or manifests.

Exit status: 0 all observed connections stay allowed, 1 some do not, 2 error.`,
		Example: `  netpold suggest -n shop > shop-policies.yaml
  kubectl apply -f shop-policies.yaml
  netpold suggest -n shop -f flows.json -f cluster.yaml --external=24`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return flags.print(cmd) },
	}
	cmd.Flags().StringVarP(&flags.namespace, "namespace", "n", "", "namespace to suggest policies for (required)")
	cmd.Flags().StringArrayVarP(&flags.sources, "filename", "f", nil,
		"file of flows, or folder or file of manifests; - reads standard input; may be repeated (default the daemon "+
			"and the API server)")
	OneOf(&flags.external, "exact", "24", "any").Add(cmd, pflag.Flag{Name: "external", DefValue: "exact",
		Usage: "what to allow for outside and node addresses: exact, 24 (their /24, or /64 for IPv6), or any (the " +
			"internet, or the private network of the address)"})
	objects.AddFlags(cmd)
	_ = cmd.MarkFlagRequired("namespace") // fails only for an unknown flag
	return cmd
}

func (f suggestFlags) print(cmd *cobra.Command) error {
	given, err := f.read(cmd)
	if err != nil {
		return err
	}
	if err := KnownNamespace(given.cluster, f.namespace); err != nil {
		return err
	}
	external := map[string]suggest.External{"exact": suggest.Exact, "24": suggest.Subnet, "any": suggest.Any}
	s := suggest.Suggest(suggest.Request{
		Cluster: given.cluster, Flows: given.flows, Namespace: f.namespace, External: external[f.external]})
	if s.Seen == 0 && len(s.Lost)+len(s.Outdated) == 0 {
		return fmt.Errorf("no allowed connections of namespace %s were seen: nothing to suggest",
			f.namespace)
	}
	if err := s.Write(cmd.OutOrStdout()); err != nil {
		return fmt.Errorf("print the policies: %w", err)
	}
	return tell(cmd.ErrOrStderr(), s)
}

// tell prints what an operator should know about a suggestion.
func tell(w io.Writer, s *suggest.Suggestion) error {
	for _, note := range s.Notes {
		fmt.Fprintln(w, "netpold:", note)
	}
	list(w, "would be blocked", s.Lost)
	list(w, "not suggested", s.Outdated)
	if len(s.Policies) > 0 {
		fmt.Fprintf(w, "netpold: %s, %d would be blocked; the policies change:\n\n", s.SeenText(),
			len(s.Lost))
		before, after := connectivity.New(s.Before), connectivity.New(s.After)
		diff := connectivity.Summarise(before, after)
		if err := cmp.Or(before.Err(), after.Err()); err != nil {
			return fmt.Errorf("print what changes: %w", err)
		}
		if err := render.DiffText(w, diff); err != nil {
			return fmt.Errorf("print what changes: %w", err)
		}
	}
	if len(s.Lost) > 0 {
		return ErrNo
	}
	return nil
}

// list prints connections, each line once.
func list(w io.Writer, what string, all []suggest.Lost) {
	printed := make(map[string]bool)
	for _, l := range all {
		if line := l.String(); !printed[line] {
			printed[line] = true
			fmt.Fprintf(w, "netpold: %s: %s\n", what, line)
		}
	}
}

// given is the input of a suggestion.
type given struct {
	cluster *policy.Cluster
	flows   []flows.Flow
}

// read reads the files, and fetches what they lack.
func (f suggestFlags) read(cmd *cobra.Command) (given, error) {
	var g given
	seen := false
	for _, source := range f.sources {
		isFlows, err := g.add(cmd, source)
		if err != nil {
			return g, err
		}
		seen = seen || isFlows
	}
	var err error
	if g.cluster == nil {
		if g.cluster, err = f.objects.Fetch(cmd.Context()); err != nil {
			return g, err
		}
	} else {
		for _, fault := range g.cluster.Faults() {
			fmt.Fprintln(cmd.ErrOrStderr(), "netpold:", fault)
		}
	}
	if !seen {
		g.flows, err = f.seen(cmd.Context())
	}
	return g, err
}

// add reads a file of flows or manifests, and says which it was.
func (g *given) add(cmd *cobra.Command, source string) (isFlows bool, err error) {
	name, r := "standard input", cmd.InOrStdin()
	if source != "-" {
		info, err := os.Stat(source)
		if err != nil {
			return false, err
		}
		if info.IsDir() {
			return false, g.manifests(cmd, source, nil)
		}
		file, err := os.Open(source)
		if err != nil {
			return false, err
		}
		defer file.Close() //nolint:errcheck // only read from
		name, r = source, file
	}
	head := bufio.NewReaderSize(r, 1<<16)
	if !startsFlows(head) {
		return false, g.manifests(cmd, source, head)
	}
	read, err := flows.Read(head)
	if err != nil {
		return true, fmt.Errorf("%s: %w", name, err)
	}
	g.flows = append(g.flows, read...)
	return true, nil
}

// startsFlows says whether a file begins with a JSON object that is not a manifest, or is empty: nothing was observed.
func startsFlows(r *bufio.Reader) bool {
	head, err := r.Peek(r.Size())
	if err != nil && !errors.Is(err, io.EOF) {
		return false
	}
	if len(bytes.TrimSpace(head)) == 0 {
		return true
	}
	var object struct {
		Kind string `json:"kind"`
	}
	return json.NewDecoder(bytes.NewReader(head)).Decode(&object) == nil && object.Kind == ""
}

// manifests adds the objects in manifests.
func (g *given) manifests(cmd *cobra.Command, source string, stdin io.Reader) error {
	more, errs, err := Load(source, stdin)
	if err != nil {
		return err
	}
	for _, err := range errs {
		fmt.Fprintln(cmd.ErrOrStderr(), "netpold:", err)
	}
	if g.cluster == nil {
		g.cluster = more
		return nil
	}
	c := g.cluster
	c.Pods, c.Policies = append(c.Pods, more.Pods...), append(c.Policies, more.Policies...)
	c.ClusterPolicies = append(c.ClusterPolicies, more.ClusterPolicies...)
	c.NodePeers = append(c.NodePeers, more.NodePeers...)
	maps.Copy(c.Namespaces, more.Namespaces)
	if c.Modes == nil {
		c.Modes = make(map[string]string)
	}
	maps.Copy(c.Modes, more.Modes)
	return nil
}
