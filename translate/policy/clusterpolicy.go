// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	sigsjson "sigs.k8s.io/json"
	"sigs.k8s.io/network-policy-api/apis/v1alpha2"
)

// ClusterPolicy is a ClusterNetworkPolicy, with what this program cannot read: a newer API may have kinds of peers and
// protocols that the typed object silently lacks.
type ClusterPolicy struct {
	// Only name, UID, annotations and spec matter. It has an entry for each rule in the text, readable or not. It is
	// immutable.
	*v1alpha2.ClusterNetworkPolicy

	Unread []Unread // in the order of the text: outside rules, egress, ingress
}

// Unread is a field that could not be read. It makes its rule invalid or, outside rules, all rules of the policy.
type Unread struct {
	Direction Direction
	Index     int    // of the rule in the direction; -1 outside rules, where the direction does not matter
	Path      string // such as "spec.ingress[0].from[1].clusters"
	Problem   string // such as "unknown field"
}

// NodePeer is a node as nodes peers of a ClusterNetworkPolicy see it.
type NodePeer struct {
	Name      string
	Labels    map[string]string // immutable
	Addresses []netip.Addr      // status.addresses of the types InternalIP and ExternalIP
}

// NodePeerFrom returns a node as a peer. An address that does not parse is left out; the error names it.
func NodePeerFrom(n *corev1.Node) (NodePeer, error) {
	peer := NodePeer{Name: n.Name, Labels: n.Labels}
	var err error
	for i, a := range n.Status.Addresses {
		if a.Type != corev1.NodeInternalIP && a.Type != corev1.NodeExternalIP {
			continue
		}
		ip, parseErr := netip.ParseAddr(a.Address)
		if parseErr != nil || ip.Zone() != "" {
			err = fmt.Errorf("node %s: status.addresses[%d]: %q is not an IP address", n.Name, i, a.Address)
			continue
		}
		peer.Addresses = append(peer.Addresses, ip.Unmap())
	}
	return peer, err
}

// ReadClusterPolicy reads a ClusterNetworkPolicy from an API server's JSON. It fails if the text is not one, or has no
// name; what is wrong with its spec is in Unread. Of the metadata, it reads name, UID and annotations.
func ReadClusterPolicy(text []byte) (ClusterPolicy, error) {
	var top struct {
		Metadata struct {
			Name        string            `json:"name"`
			UID         string            `json:"uid"`
			Annotations map[string]string `json:"annotations"`
		} `json:"metadata"`
		Spec json.RawMessage `json:"spec"`
	}
	err := sigsjson.UnmarshalCaseSensitivePreserveInts(text, &top)
	if err == nil && top.Metadata.Name == "" {
		err = errors.New("no metadata.name")
	}
	if err != nil {
		return ClusterPolicy{}, fmt.Errorf("read a ClusterNetworkPolicy: %w", err)
	}
	p := ClusterPolicy{ClusterNetworkPolicy: new(v1alpha2.ClusterNetworkPolicy)}
	p.Name, p.Annotations = top.Metadata.Name, top.Metadata.Annotations
	p.UID = types.UID(top.Metadata.UID)
	p.readSpec(top.Spec)
	return p, nil
}

// readSpec reads a spec, rule by rule, because the strict decoder reports only a limited number of unknown fields.
func (p *ClusterPolicy) readSpec(text json.RawMessage) {
	var parts struct {
		Tier     json.RawMessage   `json:"tier"`
		Priority json.RawMessage   `json:"priority"`
		Subject  json.RawMessage   `json:"subject"`
		Ingress  []json.RawMessage `json:"ingress"`
		Egress   []json.RawMessage `json:"egress"`
	}
	outside := Unread{Index: -1, Path: "spec"}
	p.read(text, &parts, outside)
	outside.Path = "spec.tier"
	p.read(parts.Tier, &p.Spec.Tier, outside)
	outside.Path = "spec.priority"
	p.read(parts.Priority, &p.Spec.Priority, outside)
	outside.Path = "spec.subject"
	p.read(parts.Subject, &p.Spec.Subject, outside)
	p.Spec.Egress = make([]v1alpha2.ClusterNetworkPolicyEgressRule, len(parts.Egress))
	for i, rule := range parts.Egress {
		p.read(rule, &p.Spec.Egress[i], Unread{Direction: Egress, Index: i, Path: fmt.Sprintf("spec.egress[%d]", i)})
	}
	p.Spec.Ingress = make([]v1alpha2.ClusterNetworkPolicyIngressRule, len(parts.Ingress))
	for i, rule := range parts.Ingress {
		p.read(rule, &p.Spec.Ingress[i], Unread{Direction: Ingress, Index: i, Path: fmt.Sprintf("spec.ingress[%d]", i)})
	}
}

// read decodes the field that at names into out, and notes unknown fields and wrong types.
func (p *ClusterPolicy) read(text json.RawMessage, out any, at Unread) {
	if len(text) == 0 {
		return // absent: what it is then is for others to judge
	}
	field := at.Path
	unknown, err := sigsjson.UnmarshalStrict(text, out)
	for _, u := range unknown {
		at.Path = field
		at.Problem, _, _ = strings.Cut(u.Error(), ` "`)
		if e := sigsjson.FieldError(nil); errors.As(u, &e) {
			at.Path += "." + plain(e.FieldPath())
		}
		p.Unread = append(p.Unread, at)
	}
	if err == nil {
		return
	}
	at.Path, at.Problem = field, plain(err.Error())
	if e := (*json.UnmarshalTypeError)(nil); errors.As(err, &e) {
		at.Problem = "want another type, not " + e.Value
		if e.Field != "" {
			at.Path += "." + e.Field
		}
	}
	p.Unread = append(p.Unread, at)
}
