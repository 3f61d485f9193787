// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"bytes"
	"fmt"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// fields says which fields of a protobuf message are kept, by number; of those with fields of their own, which of these. Numbers and
// types are part of the API and never change.
type fields map[protowire.Number]fields

// metaFields are those of an ObjectMeta that a watch needs: name, namespace, uid for events, resourceVersion, labels, and annotations,
// where the end of the initial events is told.
func metaFields() fields { return fields{1: nil, 3: nil, 5: nil, 6: nil, 11: nil, 12: nil} }

// keptFields are the fields of objects that policy needs, by kind. A pod has six kilobytes and more, most of it managed fields, volumes,
// probes and environments: to decode them takes longer than all that follows, and they are garbage at once.
func keptFields() map[string]fields {
	pod := metaFields()
	pod[8], pod[13] = nil, nil // creationTimestamp, ownerReferences
	container := fields{6: nil, 24: nil}
	return map[string]fields{
		"Pod": {
			1: pod,
			2: {2: container, 10: nil, 11: nil, 20: container}, // containers, nodeName, hostNetwork, initContainers
			3: {1: nil, 6: nil, 12: nil},                       // phase, podIP, podIPs
		},
		"Namespace":     {1: metaFields()},
		"NetworkPolicy": {1: metaFields(), 2: nil},
	}
}

// trim appends to dst what of a message is kept.
func (keep fields) trim(dst, message []byte) ([]byte, error) {
	for len(message) > 0 {
		number, typ, n := protowire.ConsumeField(message)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		field := message[:n]
		message = message[n:]
		inner, kept := keep[number]
		switch {
		case !kept:
		case inner == nil || typ != protowire.BytesType:
			dst = append(dst, field...)
		default:
			_, _, tag := protowire.ConsumeTag(field)
			content, _ := protowire.ConsumeBytes(field[tag:])
			start := len(dst)
			var err error
			if dst, err = inner.trim(dst, content); err != nil {
				return nil, err
			}
			head := protowire.AppendVarint(field[:tag:tag], uint64(len(dst)-start))
			dst = slices.Insert(dst, start, head...)
		}
	}
	return dst, nil
}

// protobufMagic begins an object of the API in protobuf; a message runtime.Unknown follows.
const protobufMagic = "k8s\x00"

// Fields of a runtime.Unknown, and of the TypeMeta in it.
const (
	unknownType protowire.Number = 1
	unknownRaw  protowire.Number = 2
	typeKind    protowire.Number = 2
)

// trimmer decodes objects in protobuf without the fields that policy does not need.
type trimmer struct {
	runtime.Serializer
	kept map[string]fields
}

// Decode decodes an object. Of a kind that is not known, as an error's status, it decodes everything.
func (t trimmer) Decode(data []byte, defaults *schema.GroupVersionKind, into runtime.Object) (runtime.Object, *schema.GroupVersionKind, error) {
	trimmed, err := t.trim(data)
	if err != nil {
		return nil, nil, fmt.Errorf("decode an object of the API: %w", err)
	}
	return t.Serializer.Decode(trimmed, defaults, into)
}

func (t trimmer) trim(data []byte) ([]byte, error) {
	unknown, ok := bytes.CutPrefix(data, []byte(protobufMagic))
	if !ok {
		return data, nil // the serializer says what is wrong
	}
	typ, err := submessage(unknown, unknownType)
	if err != nil {
		return nil, err
	}
	kind, err := submessage(typ, typeKind)
	if err != nil {
		return nil, err
	}
	keep := t.kept[string(kind)]
	if keep == nil {
		return data, nil
	}
	return fields{unknownType: nil, unknownRaw: keep}.trim([]byte(protobufMagic), unknown)
}

// submessage returns the content of a field of strings, bytes or messages, or nil if the message has none of that number.
func submessage(message []byte, want protowire.Number) ([]byte, error) {
	for len(message) > 0 {
		number, typ, tag := protowire.ConsumeTag(message)
		n := protowire.ConsumeFieldValue(number, typ, message[max(tag, 0):])
		if tag < 0 || n < 0 {
			return nil, protowire.ParseError(min(tag, n))
		}
		if number == want && typ == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(message[tag:])
			return content, nil
		}
		message = message[tag+n:]
	}
	return nil, nil
}
