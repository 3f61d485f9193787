// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
	"github.com/netpold/netpold/watch/apiserver"
)

// Fetch returns the pods, namespaces and policies of an API server, as they are now.
func Fetch(ctx context.Context, client *apiserver.Client) (*policy.Cluster, error) {
	// No log: ending the watches is not news, and other errors are returned.
	ctx, cancel := context.WithCancelCause(klog.NewContext(ctx, klog.Logger{}))
	defer cancel(nil)
	all := &collected{
		pods: make(map[types.NamespacedName]policy.Pod), namespaces: make(map[string]map[string]string),
		policies: make(map[types.NamespacedName]*networkingv1.NetworkPolicy), done: cancel,
		clusterPolicies: make(map[string]policy.ClusterPolicy), nodePeers: make(map[string]policy.NodePeer),
	}
	source := apiserver.Source{Client: client, Log: slog.New(slog.DiscardHandler)}
	if err := source.Run(ctx, all); err != nil {
		return nil, err
	}
	if err := context.Cause(ctx); err != errSynced { //nolint:errorlint // the very one
		return nil, fmt.Errorf("read the cluster: %w", err)
	}
	return all.cluster(), nil
}

// errSynced ends the read once the cluster is complete.
var errSynced = fmt.Errorf("everything is known") //nolint:gochecknoglobals // a sentinel error

// collected gathers the objects of a cluster, until all are known or the server does not answer.
type collected struct {
	mu         sync.Mutex
	pods       map[types.NamespacedName]policy.Pod
	namespaces map[string]map[string]string
	modes      policy.Cluster // of namespaces
	policies   map[types.NamespacedName]*networkingv1.NetworkPolicy
	done       context.CancelCauseFunc

	clusterPolicies map[string]policy.ClusterPolicy
	nodePeers       map[string]policy.NodePeer
}

// Update, Away and Synced implement [watch.Sink].
func (c *collected) Update(edit func(watch.Objects)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	edit(c)
}

// Away ends the read: the user would rather have the error than wait.
func (c *collected) Away(err error) {
	if err != nil {
		c.done(err)
	}
}

// Synced ends the read.
func (c *collected) Synced() { c.done(errSynced) }

// SetPod and the others implement [watch.Objects].
func (c *collected) SetPod(p policy.Pod)                               { c.pods[p.NamespacedName] = p }
func (c *collected) DeletePod(n types.NamespacedName)                  { delete(c.pods, n) }
func (c *collected) SetNamespace(name string, l map[string]string)     { c.namespaces[name] = l }
func (c *collected) DeleteNamespace(name string)                       { delete(c.namespaces, name) }
func (c *collected) SetNamespaceMode(name string, a map[string]string) { c.modes.SetMode(name, a) }
func (c *collected) SetPolicy(np *networkingv1.NetworkPolicy) {
	c.policies[types.NamespacedName{Namespace: np.Namespace, Name: np.Name}] = np
}
func (c *collected) SetNode(string, []netip.Prefix)             {}
func (c *collected) DeletePolicy(n types.NamespacedName)        { delete(c.policies, n) }
func (c *collected) Pods() iter.Seq[types.NamespacedName]       { return maps.Keys(c.pods) }
func (c *collected) Policies() iter.Seq[types.NamespacedName]   { return maps.Keys(c.policies) }
func (c *collected) Namespaces() iter.Seq[types.NamespacedName] { return inNoNamespace(c.namespaces) }

func (c *collected) SetClusterPolicy(p policy.ClusterPolicy)   { c.clusterPolicies[p.Name] = p }
func (c *collected) DeleteClusterPolicy(name string)           { delete(c.clusterPolicies, name) }
func (c *collected) SetNodePeer(n policy.NodePeer)             { c.nodePeers[n.Name] = n }
func (c *collected) DeleteNodePeer(name string)                { delete(c.nodePeers, name) }
func (c *collected) NodePeers() iter.Seq[types.NamespacedName] { return inNoNamespace(c.nodePeers) }
func (c *collected) ClusterPolicies() iter.Seq[types.NamespacedName] {
	return inNoNamespace(c.clusterPolicies)
}

// inNoNamespace yields the keys of m as names without a namespace.
func inNoNamespace[T any](m map[string]T) iter.Seq[types.NamespacedName] {
	return func(yield func(types.NamespacedName) bool) {
		for name := range m {
			if !yield(types.NamespacedName{Name: name}) {
				return
			}
		}
	}
}

// cluster returns what was gathered.
func (c *collected) cluster() *policy.Cluster {
	c.mu.Lock()
	defer c.mu.Unlock()
	return &policy.Cluster{
		Pods: slices.Collect(maps.Values(c.pods)), Namespaces: c.namespaces, Modes: c.modes.Modes,
		Policies:        slices.Collect(maps.Values(c.policies)),
		ClusterPolicies: slices.Collect(maps.Values(c.clusterPolicies)),
		NodePeers:       slices.Collect(maps.Values(c.nodePeers)),
	}
}
