// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"

	"github.com/netpold/netpold/cmd/internal/command"
	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch/apiserver"
)

// cluster is the cluster that kubectl's flags name, and how to ask its nodes.
type cluster struct {
	flags     *genericclioptions.ConfigFlags
	namespace string // of netpold's pods; "" for any
	timeout   time.Duration
}

// AddFlags adds none: the root command has kubectl's.
func (c *cluster) AddFlags(*cobra.Command) {}

// Fetch returns the objects that policies are about.
func (c *cluster) Fetch(ctx context.Context) (*policy.Cluster, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	client, err := apiserver.NewClientFor(config)
	if err != nil {
		return nil, err
	}
	return command.Fetch(ctx, client)
}

// config returns how to reach the API server, with no rate limit but the server's own.
func (c *cluster) config() (*rest.Config, error) {
	config, err := c.flags.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	return config, nil
}

func (c *cluster) core() (*corev1client.CoreV1Client, error) {
	config, err := c.config()
	if err != nil {
		return nil, err
	}
	return corev1client.NewForConfig(config)
}

// What the manifests and the chart give netpold's pods.
const (
	daemonLabel     = "app.kubernetes.io/name=netpold"
	daemonContainer = "netpold"
)

// daemon is the netpold of a node.
type daemon struct {
	node, namespace, pod string
	absent               string // why it cannot be asked; "" if it can
}

// errNoDaemons is returned when there is no netpold to ask.
var errNoDaemons = errors.New("no pod with the label " + daemonLabel + ": is netpold installed?")

// daemons returns netpold's pods, one for each node that has any, sorted by node.
func (c *cluster) daemons(ctx context.Context) ([]daemon, error) { return c.daemonsWhere(ctx, "") }

// daemonsWhere is daemons, of the pods that match a field selector.
func (c *cluster) daemonsWhere(ctx context.Context, fields string) ([]daemon, error) {
	core, err := c.core()
	if err != nil {
		return nil, err
	}
	list, err := core.Pods(c.namespace).List(ctx, metav1.ListOptions{LabelSelector: daemonLabel,
		FieldSelector: fields})
	if err != nil {
		return nil, fmt.Errorf("find netpold's pods: %w", err)
	}
	slices.SortStableFunc(list.Items, func(a, b corev1.Pod) int { return cmp.Compare(rank(b), rank(a)) })
	var all []daemon
	for _, p := range list.Items {
		isDaemon := slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool {
			return c.Name == daemonContainer
		})
		d := daemon{node: p.Spec.NodeName, namespace: p.Namespace, pod: p.Name}
		if rank(p) == 0 {
			d.absent = "netpold's pod is " + strings.ToLower(string(p.Status.Phase))
		}
		if isDaemon && d.node != "" {
			all = append(all, d)
		}
	}
	if len(all) == 0 {
		return nil, errNoDaemons
	}
	slices.SortStableFunc(all, func(a, b daemon) int { return cmp.Compare(a.node, b.node) })
	return slices.CompactFunc(all, func(a, b daemon) bool { return a.node == b.node }), nil
}

// noDaemon is the error of a node without netpold.
const noDaemon = "netpold does not run there"

// daemonsOn returns the daemons of nodes; a node without one gets noDaemon.
func daemonsOn(daemons []daemon, nodes []string) []daemon {
	byNode := make(map[string]daemon, len(daemons))
	for _, d := range daemons {
		byNode[d.node] = d
	}
	var on []daemon
	for _, node := range nodes {
		d, known := byNode[node]
		if !known {
			d = daemon{node: node, absent: noDaemon}
		}
		on = append(on, d)
	}
	return on
}

// rank decides which of a node's pods to ask: the highest. 0 is never asked.
func rank(p corev1.Pod) int {
	switch {
	case p.Status.Phase != corev1.PodRunning:
		return 0
	case p.DeletionTimestamp != nil: // it may still answer
		return 1
	}
	return 2
}
