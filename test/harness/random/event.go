// SPDX-License-Identifier: Apache-2.0

package random

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/netpold/netpold/translate"
	"github.com/netpold/netpold/translate/policy"
)

// Kind is the kind of object that an event is about.
type Kind uint8

// The kinds of objects.
const (
	PodKind Kind = iota
	NamespaceKind
	PolicyKind
	NodeKind
	ClusterPolicyKind
	NodePeerKind
)

// Event is a watch event: an object was added, changed or deleted.
type Event struct {
	Kind   Kind
	Name   types.NamespacedName
	Delete bool

	// The object from now on. Only the field of Kind is set, and none if Delete is.
	Pod    policy.Pod
	Labels map[string]string // of a namespace
	Mode   map[string]string // of a namespace: its annotation, if it has one
	Policy *networkingv1.NetworkPolicy
	CIDRs  []netip.Prefix // of a node

	ClusterPolicy policy.ClusterPolicy
	NodePeer      policy.NodePeer
}

// String names the event's object and what happens to it.
func (e Event) String() string {
	verb := "set"
	if e.Delete {
		verb = "delete"
	}
	kinds := [...]string{"pod", "namespace", "policy", "node", "cluster policy", "node peer"}
	return fmt.Sprintf("%s %s %s", verb, kinds[e.Kind], e.Name)
}

// Apply applies the event to s.
func (e Event) Apply(s *translate.State) {
	switch {
	case e.Kind == PodKind && e.Delete:
		s.DeletePod(e.Name)
	case e.Kind == PodKind:
		s.SetPod(e.Pod)
	case e.Kind == NamespaceKind && e.Delete:
		s.DeleteNamespace(e.Name.Name)
	case e.Kind == NamespaceKind:
		s.SetNamespace(e.Name.Name, e.Labels)
		_ = s.SetNamespaceMode(e.Name.Name, e.Mode) // as below
	case e.Kind == NodeKind:
		s.SetNode(e.Name.Name, e.CIDRs)
	case e.Kind == ClusterPolicyKind && e.Delete:
		s.DeleteClusterPolicy(e.Name.Name)
	case e.Kind == ClusterPolicyKind:
		s.SetClusterPolicy(e.ClusterPolicy)
	case e.Kind == NodePeerKind && e.Delete:
		s.DeleteNodePeer(e.Name.Name)
	case e.Kind == NodePeerKind:
		s.SetNodePeer(e.NodePeer)
	case e.Delete:
		s.DeletePolicy(e.Name)
	default:
		_ = s.SetPolicy(e.Policy) // some do not compile, intentionally
	}
}

// ApplyTo applies the event to the cluster. Objects are replaced, never edited.
func (e Event) ApplyTo(c *policy.Cluster) {
	switch e.Kind {
	case PodKind:
		c.Pods = slices.DeleteFunc(slices.Clone(c.Pods), func(p policy.Pod) bool { return p.NamespacedName == e.Name })
		if !e.Delete {
			c.Pods = append(c.Pods, e.Pod)
		}
	case NamespaceKind:
		if c.Namespaces = maps.Clone(c.Namespaces); e.Delete {
			delete(c.Namespaces, e.Name.Name)
		} else {
			c.Namespaces[e.Name.Name] = e.Labels
		}
		c.Modes = maps.Clone(c.Modes)
		c.SetMode(e.Name.Name, e.Mode)
	case PolicyKind:
		c.Policies = slices.DeleteFunc(slices.Clone(c.Policies), func(p *networkingv1.NetworkPolicy) bool {
			return policyName(p) == e.Name
		})
		if !e.Delete {
			c.Policies = append(c.Policies, e.Policy)
		}
	case NodeKind:
		nodes := make(map[string][]netip.Prefix)
		maps.Copy(nodes, c.Nodes)
		if e.Delete {
			delete(nodes, e.Name.Name)
		} else {
			nodes[e.Name.Name] = e.CIDRs
		}
		c.Nodes = nodes
	case ClusterPolicyKind:
		c.ClusterPolicies = slices.DeleteFunc(slices.Clone(c.ClusterPolicies), func(p policy.ClusterPolicy) bool {
			return p.Name == e.Name.Name
		})
		if !e.Delete {
			c.ClusterPolicies = append(c.ClusterPolicies, e.ClusterPolicy)
		}
	case NodePeerKind:
		c.NodePeers = slices.DeleteFunc(slices.Clone(c.NodePeers), func(n policy.NodePeer) bool {
			return n.Name == e.Name.Name
		})
		if !e.Delete {
			c.NodePeers = append(c.NodePeers, e.NodePeer)
		}
	}
}

// Undo returns the event that restores the event's object to what it is in c.
func (e Event) Undo(c *policy.Cluster) Event {
	for _, have := range Events(c) {
		if have.Kind == e.Kind && have.Name == e.Name {
			return have
		}
	}
	return Event{Kind: e.Kind, Name: e.Name, Delete: true}
}

func policyName(np *networkingv1.NetworkPolicy) types.NamespacedName {
	return types.NamespacedName{Namespace: np.Namespace, Name: np.Name}
}

// Events returns the events that build c from nothing: namespaces, then pods, then policies, then nodes, then the
// tiers.
func Events(c *policy.Cluster) []Event {
	var events []Event
	for _, name := range slices.Sorted(maps.Keys(c.Namespaces)) {
		events = append(events, Event{Kind: NamespaceKind, Name: types.NamespacedName{Name: name},
			Labels: c.Namespaces[name], Mode: modeOf(c, name)})
	}
	for _, p := range c.Pods {
		events = append(events, Event{Kind: PodKind, Name: p.NamespacedName, Pod: p})
	}
	for _, np := range c.Policies {
		events = append(events, Event{Kind: PolicyKind, Name: policyName(np), Policy: np})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Nodes)) {
		events = append(events, Event{Kind: NodeKind, Name: types.NamespacedName{Name: name}, CIDRs: c.Nodes[name]})
	}
	for _, n := range c.NodePeers {
		events = append(events, Event{Kind: NodePeerKind, Name: types.NamespacedName{Name: n.Name}, NodePeer: n})
	}
	for _, p := range c.ClusterPolicies {
		events = append(events, Event{Kind: ClusterPolicyKind, Name: types.NamespacedName{Name: p.Name},
			ClusterPolicy: p})
	}
	return events
}

// modeOf returns the annotation of a namespace, if it has one.
func modeOf(c *policy.Cluster, namespace string) map[string]string {
	if mode, has := c.Modes[namespace]; has {
		return map[string]string{policy.ModeAnnotation: mode}
	}
	return nil
}

// Event returns a random event that can happen to c: an object of the universe is added, deleted, changed slightly or
// replaced.
func (g *Generator) Event(c *policy.Cluster) Event {
	if g.tiers && g.chance(25) {
		return g.tierEvent(c)
	}
	remove := g.chance(30)
	switch n := g.r.IntN(11); {
	case n == 10:
		e := Event{Kind: NodeKind, Name: types.NamespacedName{Name: pick(g.r, Nodes()[0], Nodes()[1])}, Delete: remove}
		if !remove {
			e.CIDRs = g.podCIDRs()
		}
		return e
	case n < 5:
		e := Event{Kind: PodKind, Delete: remove, Pod: g.pod(g.r.IntN(g.size.Pods))}
		if len(c.Pods) > 0 && g.chance(60) {
			e.Pod = g.change(pick(g.r, c.Pods...))
		}
		if e.Name = e.Pod.NamespacedName; remove {
			e.Pod = policy.Pod{}
		}
		return e
	case n < 7:
		name := types.NamespacedName{Name: namespaceName(g.r.IntN(g.size.Namespaces))}
		if remove {
			return Event{Kind: NamespaceKind, Name: name, Delete: true}
		}
		return Event{Kind: NamespaceKind, Name: name, Labels: g.namespaceLabels(), Mode: g.mode(10)}
	}
	e := Event{Kind: PolicyKind, Delete: remove, Policy: g.policy(g.r.IntN(g.size.Policies))}
	if len(c.Policies) > 0 && g.chance(60) {
		e.Policy = g.changePolicy(pick(g.r, c.Policies...))
	}
	if e.Name = policyName(e.Policy); remove {
		e.Policy = nil
	}
	return e
}

// change returns p with one thing about it changed.
func (g *Generator) change(p policy.Pod) policy.Pod {
	i, _ := strconv.Atoi(p.Name[strings.LastIndexByte(p.Name, '-')+1:])
	other := g.pod(i)
	switch g.r.IntN(8) {
	case 0:
		p.Labels = other.Labels
	case 1:
		p.IPs, p.HostNetwork = other.IPs, other.HostNetwork
	case 2:
		p.Node = other.Node
	case 3:
		p.Ports = other.Ports
	case 4:
		p.Running = !p.Running
	case 5:
		p.Created = other.Created
	case 6:
		p.Terminating = !p.Terminating
	case 7:
		if p.IPs = slices.Clone(p.IPs); len(p.IPs) > 0 { // dual-stack to single-stack, or to none
			p.IPs = p.IPs[:len(p.IPs)-1]
		}
	}
	return p
}

// changePolicy returns np with one thing about it changed.
func (g *Generator) changePolicy(np *networkingv1.NetworkPolicy) *networkingv1.NetworkPolicy {
	i, _ := strconv.Atoi(np.Name[strings.LastIndexByte(np.Name, '-')+1:])
	changed, other := np.DeepCopy(), g.policy(i)
	spec := &changed.Spec
	switch g.r.IntN(7) {
	case 6:
		changed.Annotations = g.mode(50)
	case 0:
		spec.PodSelector = other.Spec.PodSelector
	case 1:
		spec.PolicyTypes = other.Spec.PolicyTypes
	case 2:
		spec.Ingress = other.Spec.Ingress
	case 3:
		spec.Egress = other.Spec.Egress
	case 4:
		for i := range spec.Ingress {
			spec.Ingress[i].Ports = g.ports()
		}
	case 5:
		for i := range spec.Egress {
			spec.Egress[i].To = g.peers()
		}
	}
	return changed
}
