// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"

	"github.com/netpold/netpold/translate/policy"
	"github.com/netpold/netpold/watch"
)

// discovery is how often to ask whether the API server has ClusterNetworkPolicies, a request that it answers from
// memory.
const discovery = time.Minute

// optional is a resource that the API server may lack, or refuse to show. It is listed and watched while available.
type optional struct {
	resource
	source   *Source
	sink     watch.Sink
	contact  *contact
	complete func() // called when it has been listed, or is not there
	exists   func(context.Context) error
}

// follow lists and watches the resource until ctx ends. While it is not there, which is no error, it asks again now and
// then. Its objects stay until two answers in a row say that it is gone: a starting API server does not know all of its
// resources at once.
func (o *optional) follow(ctx context.Context) {
	told, away, had := "", 0, false
	for ctx.Err() == nil {
		err := o.exists(ctx)
		switch {
		case err == nil:
			if had && away > 1 {
				o.source.Log.Info("the API server has a resource again; its objects will be enforced",
					"resource", o.name)
			}
			told, away, had = "", 0, true
			o.run(ctx)
			continue
		case apierrors.IsNotFound(err):
			away++
			if away > 1 {
				o.forget()
			}
			if had && away == 2 {
				o.source.Log.Warn("the API server no longer has a resource; none of its objects is enforced",
					"resource", o.name)
			}
			o.complete()
		case apierrors.IsForbidden(err):
			if told != err.Error() {
				told = err.Error()
				o.source.Log.Warn("not allowed to list a resource; its objects are not enforced",
					"resource", o.name, "err", err)
			}
			o.complete()
		default:
			o.contact.answered(o.name, err)
			pause(ctx, around(time.Second))
			continue
		}
		o.contact.answered(o.name, nil)
		pause(ctx, around(cmp.Or(o.source.discovery, discovery)))
	}
}

// around returns roughly d, so that the nodes of a cluster do not all ask at once.
func around(d time.Duration) time.Duration { return d/2 + rand.N(d) }

// run lists and watches the resource until it is gone.
func (o *optional) run(ctx context.Context) {
	ctx, gone := context.WithCancel(ctx)
	defer gone()
	f := newFeed(o.resource, o.sink, o.source.Log)
	f.complete = o.complete
	f.answered = func(err error) {
		if apierrors.IsNotFound(err) {
			gone()
			return
		}
		o.contact.answered(o.name, err)
	}
	f.run(ctx)
	f.follow(nil) // what a stream still brings must not outlive [optional.forget]
}

// forget deletes all objects from the sink.
func (o *optional) forget() {
	o.sink.Update(func(objects watch.Objects) {
		for _, name := range slices.Collect(o.names(objects)) {
			o.remove(objects, name)
		}
	})
}

// followTiers follows the ClusterNetworkPolicies until ctx ends, and the Nodes once one of them has a nodes peer: in a
// large cluster Nodes change all the time. policies lacks exists and its resource; begun returns what to call when the
// Nodes are complete.
func (s *Source) followTiers(ctx context.Context, policies optional, begun func() (complete func())) {
	nodes := policies
	var follow sync.WaitGroup
	policies.exists, nodes.exists = s.hasClusterPolicies, s.hasNodes
	nodes.resource = s.nodes()
	policies.resource = s.clusterPolicies(sync.OnceFunc(func() {
		nodes.complete = begun()
		follow.Go(func() { nodes.follow(ctx) })
	}))
	policies.follow(ctx)
	follow.Wait()
}

// hasNodes returns nil if the API server shows nodes.
func (s *Source) hasNodes(ctx context.Context) error {
	return s.Client.core.Get().Resource("nodes").Param("limit", "1").Do(ctx).Error()
}

// hasClusterPolicies returns nil if the API server has ClusterNetworkPolicies and shows them, and "not found" if it has
// none.
func (s *Source) hasClusterPolicies(ctx context.Context) error {
	client, group := s.Client.tiers, v1alpha2.GroupVersion
	text, err := client.Get().AbsPath("/apis", group.Group, group.Version).Do(ctx).Raw()
	if err != nil {
		return err
	}
	var has metav1.APIResourceList
	if err := json.Unmarshal(text, &has); err != nil {
		return fmt.Errorf("read what %s has: %w", group, err)
	}
	if !slices.ContainsFunc(has.APIResources, func(r metav1.APIResource) bool { return r.Name == clusterPolicies }) {
		return apierrors.NewNotFound(v1alpha2.Resource(clusterPolicies), "")
	}
	return client.Get().Resource(clusterPolicies).Param("limit", "1").Do(ctx).Error()
}

const clusterPolicies = "clusternetworkpolicies"

// clusterPolicies is the resource. Its objects are read from their JSON, as a typed client drops unknown fields.
// needNodes is called for the first with a nodes peer.
func (s *Source) clusterPolicies(needNodes func()) resource {
	e := endpoint{
		client: s.Client.tiers, codecs: s.Client.codecs, resource: clusterPolicies,
		others: unstructured.UnstructuredJSONScheme,
	}
	set := func(objects watch.Objects, u *unstructured.Unstructured) error {
		text, err := u.MarshalJSON()
		if err != nil {
			return err
		}
		p, err := policy.ReadClusterPolicy(text)
		if err != nil {
			return err
		}
		for _, r := range p.Rules(policy.Egress) {
			for _, peer := range r.Peers {
				if peer.Nodes != nil {
					needNodes()
				}
			}
		}
		objects.SetClusterPolicy(p)
		return nil
	}
	return resource{e, e.resource, setter(set), unnamespaced(watch.Objects.DeleteClusterPolicy),
		watch.Objects.ClusterPolicies}
}

// nodes is the resource, for nodes peers.
func (s *Source) nodes() resource {
	e := endpoint{
		client: s.Client.core, codecs: s.Client.codecs, resource: "nodes", kind: "Node",
		empty: func() message { return new(corev1.Node) },
	}
	set := func(objects watch.Objects, n *corev1.Node) error {
		peer, err := policy.NodePeerFrom(n)
		peer.Labels = maps.Clone(peer.Labels)
		objects.SetNodePeer(peer)
		return err
	}
	return resource{e, e.resource, setter(set), unnamespaced(watch.Objects.DeleteNodePeer), watch.Objects.NodePeers}
}
