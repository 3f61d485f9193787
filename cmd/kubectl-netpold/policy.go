// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	networkingv1 "k8s.io/api/networking/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	networkingv1client "k8s.io/client-go/kubernetes/typed/networking/v1"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// policyStatus is whether a policy is in force wherever it is needed.
type policyStatus struct {
	Policy  string              `json:"policy"`
	InForce bool                `json:"inForce"`         // on all nodes
	Nodes   []policyNode        `json:"nodes"`           // those with pods that the policy selects
	Notes   map[string][]string `json:"notes,omitempty"` // each to the nodes that say so
}

// policyNode is a node in the status of a policy.
type policyNode struct {
	Node    string   `json:"node"`
	Pods    []string `json:"pods"` // that the policy selects, as namespace/name
	InForce bool     `json:"inForce"`
	Reason  string   `json:"reason,omitempty"` // why it is not
}

// policyStatus prints whether a policy is in force on the nodes with pods that it selects.
func (c *cluster) policyStatus(cmd *cobra.Command, name string, daemons []daemon, output string) error {
	pods, same, err := c.need(cmd.Context(), name)
	if err != nil {
		return err
	}
	daemons = daemonsOn(daemons, slices.Sorted(maps.Keys(pods)))
	answers := c.ask(cmd.Context(), daemons, cmd.ErrOrStderr(), "status", name, "-o", "json")
	reports := decode[watch.PolicyReport](oneLine(answers))
	s := policyStatus{Policy: name, InForce: true, Nodes: []policyNode{}, Notes: make(map[string][]string)}
	for _, a := range answers {
		n := policyNode{Node: a.node, Pods: pods[a.node]}
		if a.err != nil {
			n.Reason = a.err.Error()
		} else {
			n.Reason = lacking(same, n.Pods, reports[a.node])
		}
		for _, note := range reports[a.node].Notes {
			s.Notes[note] = append(s.Notes[note], a.node)
		}
		n.InForce = n.Reason == ""
		s.InForce = s.InForce && n.InForce
		s.Nodes = append(s.Nodes, n)
	}
	if output == "json" {
		err = command.PrintJSON(cmd.OutOrStdout(), s)
	} else {
		err = s.print(cmd.OutOrStdout())
	}
	if err != nil {
		return fmt.Errorf("print the status: %w", err)
	}
	return cmp.Or(missing(answers), command.Yes(s.InForce))
}

// need returns the pods with addresses of their own that a policy of the API server selects, by node, and what says
// whether a node has that policy.
func (c *cluster) need(ctx context.Context, name string) (map[string][]string, func(watch.PolicyReport) bool, error) {
	if !strings.Contains(name, "/") {
		return c.needCluster(ctx, name)
	}
	np, err := c.findPolicy(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	pods, err := c.selected(ctx, np)
	return pods, func(r watch.PolicyReport) bool {
		return r.Spec != nil && apiequality.Semantic.DeepEqual(*r.Spec, np.Spec)
	}, err
}

// needCluster is need of a ClusterNetworkPolicy.
func (c *cluster) needCluster(ctx context.Context, name string) (map[string][]string, func(watch.PolicyReport) bool,
	error) {
	all, err := c.Fetch(ctx)
	if err != nil {
		return nil, nil, err
	}
	var names []string
	for _, p := range all.ClusterPolicies {
		if names = append(names, p.Name); p.Name == name {
			return all.Subjects(p), func(r watch.PolicyReport) bool {
				return r.ClusterSpec != nil && apiequality.Semantic.DeepEqual(*r.ClusterSpec, p.Spec) &&
					slices.Equal(r.Unread, p.Unread)
			}, nil
		}
	}
	return nil, nil, fmt.Errorf("no ClusterNetworkPolicy %s%s; a NetworkPolicy is NAMESPACE/NAME", name,
		policy.DidYouMean(name, names))
}

// findPolicy returns a NetworkPolicy of the API server.
func (c *cluster) findPolicy(ctx context.Context, text string) (*networkingv1.NetworkPolicy, error) {
	namespace, name, _ := strings.Cut(text, "/")
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	networking, err := networkingv1client.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	all, err := networking.NetworkPolicies(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var names []string
	for i, np := range all.Items {
		if np.Name == name {
			return &all.Items[i], nil
		}
		names = append(names, np.Namespace+"/"+np.Name)
	}
	return nil, fmt.Errorf("no NetworkPolicy %s%s", text, policy.DidYouMean(text, names))
}

// selected returns the pods with addresses of their own that a policy selects, by node.
func (c *cluster) selected(ctx context.Context, np *networkingv1.NetworkPolicy) (map[string][]string, error) {
	selector, err := metav1.LabelSelectorAsSelector(&np.Spec.PodSelector)
	if err != nil {
		return nil, fmt.Errorf("NetworkPolicy %s/%s: %w", np.Namespace, np.Name, err)
	}
	core, err := c.core()
	if err != nil {
		return nil, err
	}
	list, err := core.Pods(np.Namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String()})
	if err != nil {
		return nil, err
	}
	byNode := make(map[string][]string)
	for i := range list.Items {
		// Addresses that do not parse do not count.
		p, unfinished, _ := policy.PodFrom(&list.Items[i])
		if unfinished && !p.HostNetwork && len(p.IPs) > 0 {
			byNode[p.Node] = append(byNode[p.Node], p.String())
		}
	}
	return byNode, nil
}

// lacking says why a policy is not in force for pods on a node with report r; "" if it is. same says whether the node
// has the policy as the API server has it.
func lacking(same func(watch.PolicyReport) bool, pods []string, r watch.PolicyReport) string {
	if !r.InForce {
		return r.Reason
	}
	if !same(r) {
		return "the node has another version of the policy"
	}
	open := slices.DeleteFunc(slices.Clone(pods), func(pod string) bool { return slices.Contains(r.Pods, pod) })
	if len(open) > 0 {
		return "the node does not apply it to " + strings.Join(open, ", ")
	}
	return ""
}

func (s policyStatus) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if len(s.Nodes) > 0 {
		fmt.Fprintln(t, "NODE\tPODS\tIN FORCE")
	}
	yes := 0
	for _, n := range s.Nodes {
		text := "yes"
		if !n.InForce {
			text = "no: " + n.Reason
		} else {
			yes++
		}
		fmt.Fprintf(t, "%s\t%d\t%s\n", n.Node, len(n.Pods), text)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if len(s.Nodes) == 0 {
		_, err := fmt.Fprintf(w, "%s selects no pod that has an address: no node needs it\n", s.Policy)
		return err
	}
	var text strings.Builder
	fmt.Fprintf(&text, "\n%s is in force on %d of the %d nodes that need it\n", s.Policy, yes, len(s.Nodes))
	for _, note := range slices.Sorted(maps.Keys(s.Notes)) {
		fmt.Fprintf(&text, "\n%s\n  on %s\n", note, strings.Join(s.Notes[note], ", "))
	}
	_, err := io.WriteString(w, text.String())
	return err
}
