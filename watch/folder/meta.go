// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"cmp"
	"encoding/json"
	"iter"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/netpold/netpold/translate/policy"
)

// metadata is the part of an object's metadata that every kind needs. Each kind reads the rest that it needs.
type metadata struct {
	key objectKey
	metaText
}

type metaText struct {
	Name      json.RawMessage `json:"name"`
	Namespace json.RawMessage `json:"namespace"`
	Labels    json.RawMessage `json:"labels"`
	Notes     json.RawMessage `json:"annotations"`
	Owners    json.RawMessage `json:"ownerReferences"`
	Created   json.RawMessage `json:"creationTimestamp"`
	Deleted   json.RawMessage `json:"deletionTimestamp"`
}

// metadata reads which object this is, and returns false if that is in doubt. A policy without a namespace but with an
// unknown field is in doubt: the field may be "namspace".
func (r *reader) metadata(kind objectKind, text json.RawMessage, path *field.Path) (metadata, bool) {
	before := len(r.problems)
	m := metadata{key: objectKey{kind: kind}}
	r.decode(text, path, &m.metaText)
	validName := validation.IsDNS1123Subdomain
	if kind == kindNamespace {
		validName = validation.IsDNS1123Label
	}
	m.key.Name = r.text(m.Name, path.Child("name"), validName)
	if m.key.Name == "" && len(r.problems) == before {
		r.fail(path.Child("name"), "is missing")
	}
	if kind.inNamespace() {
		namespace := r.text(m.Namespace, path.Child("namespace"), validation.IsDNS1123Label)
		m.key.Namespace = cmp.Or(namespace, metav1.NamespaceDefault)
	}
	ok := len(r.problems) == before
	if ok {
		r.object = m.key.String()
	}
	for _, name := range duplicates(text) {
		r.fail(under(path, name), "appears twice")
		r.broken = r.broken || kind != kindPolicy
		ok = ok && name != "name" && name != "namespace"
	}
	if kind == kindPolicy && !r.strict(text, path, new(metav1.ObjectMeta)) {
		ok = ok && !isNull(m.Namespace)
	}
	return m, ok
}

// text returns a valid string, or "".
func (r *reader) text(value json.RawMessage, path *field.Path, check func(string) []string) string {
	var text string
	if !r.decode(value, path, &text) || text == "" {
		return ""
	}
	if wrong := check(text); len(wrong) > 0 {
		r.fail(path, "%s: %s", quote(text), wrong[0])
		return ""
	}
	return text
}

// labels returns the valid labels. Each invalid one is a problem: a policy may select by it.
func (r *reader) labels(text json.RawMessage, path *field.Path) map[string]string {
	before := len(r.problems)
	labels := make(map[string]string)
	for key, value := range r.mapping(text, path) {
		if wrong := validation.IsQualifiedName(key); len(wrong) > 0 {
			r.fail(path, "%s: %s", quote(key), wrong[0])
			continue
		}
		if wrong := validation.IsValidLabelValue(value); len(wrong) > 0 {
			r.fail(path.Key(key), "%s: %s", quote(value), wrong[0])
			continue
		}
		labels[key] = value
	}
	r.broken = r.broken || len(r.problems) > before
	return labels
}

// mode returns the mode annotation of an object; nil if it has none. If it is in doubt, the policies are enforced.
func (r *reader) mode(text json.RawMessage, path *field.Path) map[string]string {
	var all map[string]json.RawMessage
	ok := r.decode(text, path, &all)
	value, has := all[policy.ModeAnnotation]
	if ok && !has {
		return nil
	}
	var mode string
	ok = ok && r.decode(value, path.Key(policy.ModeAnnotation), &mode)
	if !ok || slices.Contains(duplicates(text), policy.ModeAnnotation) {
		mode = policy.Enforce
	}
	return map[string]string{policy.ModeAnnotation: mode}
}

// mapping yields the strings of an object, sorted by key. Any other value is a problem.
func (r *reader) mapping(text json.RawMessage, path *field.Path) iter.Seq2[string, string] {
	var values map[string]json.RawMessage
	r.decode(text, path, &values)
	return func(yield func(string, string) bool) {
		for _, key := range slices.Sorted(maps.Keys(values)) {
			var value string
			if r.decode(values[key], path.Key(plain(key)), &value) && !yield(key, value) {
				return
			}
		}
	}
}

// namespaceLabels returns the labels of a namespace plus the one that the API server sets on each.
func namespaceLabels(name string, labels map[string]string) map[string]string {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	labels[corev1.LabelMetadataName] = name
	return labels
}

// podSpec and podStatus are what policy needs to know about a pod.
type (
	podSpec struct {
		NodeName       string          `json:"nodeName"`
		HostNetwork    bool            `json:"hostNetwork"`
		Containers     json.RawMessage `json:"containers"`
		InitContainers json.RawMessage `json:"initContainers"`
	}
	podContainer struct {
		Ports         []corev1.ContainerPort         `json:"ports"`
		RestartPolicy *corev1.ContainerRestartPolicy `json:"restartPolicy"`
	}
	podStatus struct {
		Phase  corev1.PodPhase `json:"phase"`
		Reason string          `json:"reason"`
		PodIP  string          `json:"podIP"`
		PodIPs []corev1.PodIP  `json:"podIPs"`
	}
)

// pod reads a pod, and returns false if it is finished or if where it runs is in doubt. A pod without a phase counts as
// running: no kubelet reports status to a folder. Other invalid parts are left out.
func (r *reader) pod(top topLevel, meta metadata, path *field.Path) (policy.Pod, bool) {
	var spec podSpec
	status := podStatus{Phase: corev1.PodRunning}
	before := len(r.problems)
	ok := r.decode(top.Spec, path.Child("spec"), &spec)
	ok = r.decode(top.Status, path.Child("status"), &status) && ok
	p := &corev1.Pod{ObjectMeta: r.podMeta(meta, path.Child("metadata"))}
	p.Spec.NodeName, p.Spec.HostNetwork = spec.NodeName, spec.HostNetwork
	p.Status.Phase, p.Status.Reason = status.Phase, status.Reason
	p.Status.PodIP, p.Status.PodIPs = status.PodIP, status.PodIPs
	if ok {
		p.Spec.Containers = r.containers(spec.Containers, path.Child("spec", "containers"))
		p.Spec.InitContainers = r.containers(spec.InitContainers, path.Child("spec", "initContainers"))
	}
	pod, alive, err := policy.PodFrom(p)
	if err != nil && ok {
		r.object = "" // the error names the pod itself
		r.fail(nil, "%s", err)
	}
	r.broken = r.broken || len(r.problems) > before
	return pod, alive && ok
}

// podMeta returns the metadata of a pod.
func (r *reader) podMeta(meta metadata, path *field.Path) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Name: meta.key.Name, Namespace: meta.key.Namespace,
		Labels: r.labels(meta.Labels, path.Child("labels"))}
	owners := path.Child("ownerReferences")
	for i, owner := range elements[metav1.OwnerReference](r, meta.Owners, owners, r.decode) {
		if wrong := validation.IsDNS1123Subdomain(owner.Name); len(wrong) > 0 {
			r.fail(owners.Index(i).Child("name"), "%s: %s", quote(owner.Name), wrong[0])
			continue
		}
		m.OwnerReferences = append(m.OwnerReferences, owner)
	}
	r.decode(meta.Created, path.Child("creationTimestamp"), &m.CreationTimestamp)
	m.CreationTimestamp.Time = m.CreationTimestamp.UTC() // so that it compares equal
	r.decode(meta.Deleted, path.Child("deletionTimestamp"), &m.DeletionTimestamp)
	return m
}

// node reads the pod CIDRs, labels and addresses of a node. Invalid ones are problems, and left out.
func (r *reader) node(top topLevel, meta metadata, path *field.Path) node {
	before := len(r.problems)
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: meta.key.Name,
		Labels: r.labels(meta.Labels, path.Child("metadata", "labels"))}}
	r.decode(top.Status, path.Child("status"), &n.Status)
	peer, err := policy.NodePeerFrom(n)
	if err != nil {
		r.object = "" // the error names the node itself
		r.fail(nil, "%s", err)
	}
	text, path := top.Spec, path.Child("spec")
	var spec struct {
		PodCIDR  string   `json:"podCIDR"`
		PodCIDRs []string `json:"podCIDRs"`
	}
	r.decode(text, path, &spec)
	cidrs, err := policy.PodCIDRs(corev1.NodeSpec{PodCIDR: spec.PodCIDR, PodCIDRs: spec.PodCIDRs})
	if err != nil {
		r.fail(path, "%s", err)
	}
	r.broken = r.broken || len(r.problems) > before
	return node{cidrs, peer}
}

// containers returns the containers, with the ports that can be read.
func (r *reader) containers(text json.RawMessage, path *field.Path) []corev1.Container {
	var containers []corev1.Container
	for _, c := range elements[podContainer](r, text, path, r.decode) {
		containers = append(containers, corev1.Container{Ports: c.Ports, RestartPolicy: c.RestartPolicy})
	}
	return containers
}
