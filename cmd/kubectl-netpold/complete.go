// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// completeTimeout is how long somebody waits who has pressed the tab key.
const completeTimeout = 3 * time.Second

// completeNamespaces completes the name of a namespace.
func (c *cluster) completeNamespaces(cmd *cobra.Command, _ []string, typed string) ([]string,
	cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	return c.namespaces(ctx, typed, ""), cobra.ShellCompDirectiveNoFileComp
}

// completePods completes the ends of a flow, as namespace/pod, of which the second gets a port.
func (c *cluster) completePods(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	end := ""
	if len(args) == 1 {
		end = ":"
	}
	return c.complete(cmd, typed, func(ctx context.Context, namespace string) ([]string, error) {
		core, err := c.core()
		if err != nil {
			return nil, err
		}
		list, err := core.Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		var names []string
		for _, p := range list.Items {
			names = append(names, p.Name+end)
		}
		return names, nil
	})
}

// completePolicies completes the name of a policy, as namespace/policy.
func (c *cluster) completePolicies(cmd *cobra.Command, args []string, typed string) ([]string,
	cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return c.complete(cmd, typed, func(ctx context.Context, namespace string) ([]string, error) {
		networking, err := c.networking()
		if err != nil {
			return nil, err
		}
		list, err := networking.NetworkPolicies(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return nil, err
		}
		var names []string
		for _, np := range list.Items {
			names = append(names, np.Name)
		}
		return names, nil
	})
}

// complete completes the namespace of a name, and then the name by those that namespace has.
func (c *cluster) complete(cmd *cobra.Command, typed string,
	in func(ctx context.Context, namespace string) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTimeout)
	defer cancel()
	namespace, name, chosen := strings.Cut(typed, "/")
	if !chosen {
		return c.namespaces(ctx, typed, "/"), cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
	}
	names, err := in(ctx, namespace)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	var all []string
	directive := cobra.ShellCompDirectiveNoFileComp
	for _, n := range names {
		if strings.HasPrefix(n, name) {
			all = append(all, namespace+"/"+n)
		}
		if strings.HasSuffix(n, ":") {
			directive |= cobra.ShellCompDirectiveNoSpace
		}
	}
	return all, directive
}

// namespaces returns the names of namespaces that begin with what is typed, with an end to each.
func (c *cluster) namespaces(ctx context.Context, typed, end string) []string {
	core, err := c.core()
	if err != nil {
		return nil
	}
	list, err := core.Namespaces().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	var all []string
	for _, ns := range list.Items {
		if strings.HasPrefix(ns.Name, typed) {
			all = append(all, ns.Name+end)
		}
	}
	return all
}
