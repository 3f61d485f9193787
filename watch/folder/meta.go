// SPDX-License-Identifier: Apache-2.0

package folder

import (
	"fmt"
	"maps"
	"reflect"
	"time"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/netpold/netpold/translate"
)

// metadata is what policy needs to know of an object's metadata. The nodes are read by who needs them.
type metadata struct {
	key                                objectKey
	labels, owners, creation, deletion *yaml.Node
}

// metadata reads who an object is, and returns false if that is in doubt. A policy without a namespace but with a field that nobody
// knows is: the field may be "namspace".
func (r *reader) metadata(kind objectKind, n, meta *yaml.Node) (metadata, bool) {
	r.object = kind.word()
	path := field.NewPath("metadata")
	before := len(r.problems)
	entries := r.mapping(meta, path)
	m := metadata{key: objectKey{kind: kind}, labels: entries["labels"].value, owners: entries["ownerReferences"].value,
		creation: entries["creationTimestamp"].value, deletion: entries["deletionTimestamp"].value}
	if meta = r.spend(meta); meta != nil {
		n = meta
	}
	validName := validation.IsDNS1123Subdomain
	if kind == kindNamespace {
		validName = validation.IsDNS1123Label
	}
	if m.key.Name = r.text(entries["name"].value, path.Child("name"), validName); m.key.Name == "" && len(r.problems) == before {
		r.fail(n, path.Child("name"), "is missing")
	}
	if kind != kindNamespace {
		namespace := r.text(entries["namespace"].value, path.Child("namespace"), validation.IsDNS1123Label)
		m.key.Namespace = namespace
		if namespace == "" {
			m.key.Namespace = metav1.NamespaceDefault
		}
	}
	ok := len(r.problems) == before
	if ok {
		r.object = m.key.String()
	}
	if kind == kindPolicy && r.unknown(entries, path, r.fieldsOf(reflect.TypeFor[metav1.ObjectMeta]())) {
		ok = ok && !isNull(entries["namespace"].value)
	}
	return m, ok
}

// unknown notes the entries that are none of the fields, and says whether there are any.
func (r *reader) unknown(entries map[string]entry, path *field.Path, fields map[string]int) bool {
	found := false
	for key, e := range entries {
		if _, known := fields[key]; !known {
			r.fail(e.key, path, "unknown field %s", quote(key))
			found = true
		}
	}
	return found
}

// text returns a string that is valid, or "".
func (r *reader) text(n *yaml.Node, path *field.Path, check func(string) []string) string {
	var text string
	if !decode(r.decoder, n, path, &text) || text == "" {
		return ""
	}
	if wrong := check(text); len(wrong) > 0 {
		r.fail(r.spend(n), path, "%s: %s", quote(text), wrong[0])
		return ""
	}
	return text
}

// quote makes foreign text fit for an error of one line.
func quote(text string) string { return fmt.Sprintf("%.80q", text) }

// plain returns a key as it is, unless an error of one line could not hold it.
func plain(key string) string {
	if q := quote(key); q != `"`+key+`"` {
		return q
	}
	return key
}

// labels returns the labels that are valid. Each of the others is a problem; it may be the one that a policy selects by.
func (r *reader) labels(n *yaml.Node) map[string]string {
	path := field.NewPath("metadata", "labels")
	before := len(r.problems)
	labels := make(map[string]string)
	for key, e := range r.mapping(n, path) {
		if wrong := validation.IsQualifiedName(key); len(wrong) > 0 {
			r.fail(e.key, path, "%s: %s", quote(key), wrong[0])
			continue
		}
		var value string
		if !decode(r.decoder, e.value, path.Key(key), &value) {
			continue
		}
		if wrong := validation.IsValidLabelValue(value); len(wrong) > 0 {
			r.fail(e.value, path.Key(key), "%s: %s", quote(value), wrong[0])
			continue
		}
		labels[key] = value
	}
	r.broken = r.broken || len(r.problems) > before
	return labels
}

// namespaceLabels returns the labels of a namespace with the one that the API server sets on each.
func namespaceLabels(name string, labels map[string]string) map[string]string {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = make(map[string]string)
	}
	labels[corev1.LabelMetadataName] = name
	return labels
}

// podSpec and podStatus are what policy needs to know of a pod.
type (
	podSpec struct {
		NodeName    string `json:"nodeName"`
		HostNetwork bool   `json:"hostNetwork"`
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

// pod reads a pod, and returns false if it is finished or if where it runs is in doubt. A pod without a phase is taken to run: no
// kubelet reports on a folder. What else has a problem is left out of it.
func (r *reader) pod(n *yaml.Node, top map[string]entry, meta metadata) (translate.Pod, bool) {
	var spec podSpec
	status := podStatus{Phase: corev1.PodRunning}
	path := field.NewPath("spec")
	before := len(r.problems)
	ok := decode(r.decoder, top["spec"].value, path, &spec)
	ok = decode(r.decoder, top["status"].value, field.NewPath("status"), &status) && ok
	p := &corev1.Pod{ObjectMeta: r.podMeta(meta)}
	p.Spec.NodeName, p.Spec.HostNetwork = spec.NodeName, spec.HostNetwork
	p.Status.Phase, p.Status.Reason = status.Phase, status.Reason
	p.Status.PodIP, p.Status.PodIPs = status.PodIP, status.PodIPs
	if ok {
		entries := r.mapping(top["spec"].value, path)
		p.Spec.Containers = r.containers(entries["containers"].value, path.Child("containers"))
		p.Spec.InitContainers = r.containers(entries["initContainers"].value, path.Child("initContainers"))
	}
	pod, alive, err := translate.PodFrom(p)
	if err != nil && ok {
		r.object = "" // the error names it
		if status := r.spend(top["status"].value); status != nil {
			n = status
		}
		r.fail(n, nil, "%s", err)
	}
	r.broken = r.broken || len(r.problems) > before
	return pod, alive && ok
}

// podMeta returns the metadata of a pod.
func (r *reader) podMeta(meta metadata) metav1.ObjectMeta {
	path := field.NewPath("metadata")
	m := metav1.ObjectMeta{Name: meta.key.Name, Namespace: meta.key.Namespace, Labels: r.labels(meta.labels)}
	for i, owner := range decodeList[metav1.OwnerReference](r.decoder, meta.owners, path.Child("ownerReferences")) {
		if wrong := validation.IsDNS1123Subdomain(owner.Name); len(wrong) > 0 {
			r.fail(meta.owners, path.Child("ownerReferences").Index(i).Child("name"), "%s: %s", quote(owner.Name), wrong[0])
			continue
		}
		m.OwnerReferences = append(m.OwnerReferences, owner)
	}
	m.CreationTimestamp = r.time(meta.creation, path.Child("creationTimestamp"))
	if deleted := r.time(meta.deletion, path.Child("deletionTimestamp")); !deleted.IsZero() {
		m.DeletionTimestamp = &deleted
	}
	return m
}

// time returns a time, the zero one where there is none.
func (r *reader) time(n *yaml.Node, path *field.Path) metav1.Time {
	var text string
	if !decode(r.decoder, n, path, &text) || text == "" {
		return metav1.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		r.fail(r.spend(n), path, "%s is not a time, as 2006-01-02T15:04:05Z", quote(text))
	}
	return metav1.NewTime(t)
}

// containers returns the ports of the containers that can be read.
func (r *reader) containers(n *yaml.Node, path *field.Path) []corev1.Container {
	var containers []corev1.Container
	for _, c := range decodeList[podContainer](r.decoder, n, path) {
		containers = append(containers, corev1.Container{Ports: c.Ports, RestartPolicy: c.RestartPolicy})
	}
	return containers
}
