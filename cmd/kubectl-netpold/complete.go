// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// completeTimeout is how long a press of the tab key may take.
const completeTimeout = 3 * time.Second

// completeNamespaces completes the name of a namespace.
func (c *cluster) completeNamespaces(cmd *cobra.Command, _ []string, typed string) ([]string,
	cobra.ShellCompDirective) {
	return c.names(cmd.Context(), typed, "/api/v1/namespaces"), cobra.ShellCompDirectiveNoFileComp
}

// completePods completes the two ends of a flow as namespace/pod, the second with a port.
func (c *cluster) completePods(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 1 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, directive := c.complete(cmd.Context(), typed, "/api/v1", "pods")
	if len(args) == 1 && strings.Contains(typed, "/") {
		for i := range names {
			names[i] += ":"
		}
		directive |= cobra.ShellCompDirectiveNoSpace
	}
	return names, directive
}

// tiersPath is where the API server lists ClusterNetworkPolicies.
const tiersPath = "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies"

// completePolicies completes the name of a policy: namespace/policy, or that of a ClusterNetworkPolicy.
func (c *cluster) completePolicies(cmd *cobra.Command, args []string, typed string) ([]string,
	cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	names, directive := c.complete(cmd.Context(), typed, "/apis/networking.k8s.io/v1", "networkpolicies")
	if !strings.Contains(typed, "/") {
		names = append(names, c.names(cmd.Context(), typed, tiersPath)...)
	}
	return names, directive
}

// complete completes the namespace of a name, and then the name among that namespace's objects of a resource.
func (c *cluster) complete(ctx context.Context, typed, group, resource string) ([]string, cobra.ShellCompDirective) {
	before, end, directive := "", "/", cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace
	path := []string{"/api/v1/namespaces"}
	if namespace, name, chosen := strings.Cut(typed, "/"); chosen {
		typed, before, end, directive = name, namespace+"/", "", cobra.ShellCompDirectiveNoFileComp
		path = []string{group, "namespaces", namespace, resource}
	}
	names := c.names(ctx, typed, path...)
	for i := range names {
		names[i] = before + names[i] + end
	}
	return names, directive
}

// names returns the names of objects at a path of the API server that begin with typed; none if it does not answer.
func (c *cluster) names(ctx context.Context, typed string, path ...string) []string {
	ctx, cancel := context.WithTimeout(ctx, completeTimeout)
	defer cancel()
	core, err := c.core()
	if err != nil {
		return nil
	}
	const namesOnly = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	text, err := core.RESTClient().Get().AbsPath(path...).SetHeader("Accept", namesOnly).Do(ctx).Raw()
	var list metav1.PartialObjectMetadataList
	if err != nil || json.Unmarshal(text, &list) != nil {
		return nil
	}
	var names []string
	for _, o := range list.Items {
		if strings.HasPrefix(o.Name, typed) {
			names = append(names, o.Name)
		}
	}
	return names
}
