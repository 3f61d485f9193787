// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bytes"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/runtime"
)

// fields says which fields of a protobuf message are kept, by number, and for submessages which of theirs; nil keeps
// all. Numbers and types are part of the API and never change.
type fields map[protowire.Number]fields

// metaFields are those of an ObjectMeta that a watch needs: name, namespace, uid for Events, resourceVersion, labels,
// and annotations, which hold the mode and mark the end of the initial events.
func metaFields() fields { return fields{1: nil, 3: nil, 5: nil, 6: nil, 11: nil, 12: nil} }

// keptFields are the fields of an object that policy needs. A pod has six kilobytes or more, most of it managed fields,
// volumes, probes and environments: decoding them takes longer than everything after it, and they are garbage at once.
func keptFields(kind string) fields {
	switch kind {
	case "Pod":
		metadata, container := metaFields(), fields{6: nil, 24: nil} // ports, restartPolicy
		// creationTimestamp, deletionTimestamp, ownerReferences
		metadata[8], metadata[9], metadata[13] = nil, nil, nil
		return fields{
			1: metadata,
			2: {2: container, 10: nil, 11: nil, 20: container}, // containers, nodeName, hostNetwork, initContainers
			3: {1: nil, 4: nil, 6: nil, 12: nil},               // phase, reason, podIP, podIPs
		}
	case "Namespace":
		return fields{1: metaFields()}
	case "Node":
		return fields{1: metaFields(), 3: {5: nil}} // addresses
	}
	return fields{1: metaFields(), 2: nil} // spec
}

// trim appends the kept fields of a message to dst.
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

// Fields of the messages that an object is wrapped in: runtime.Unknown, and in a watch, around that, metav1.WatchEvent
// and runtime.RawExtension.
const (
	unknownType  protowire.Number = 1
	unknownRaw   protowire.Number = 2
	typeKind     protowire.Number = 2 // of unknownType
	eventType    protowire.Number = 1
	eventObject  protowire.Number = 2
	extensionRaw protowire.Number = 1
)

// message is an object of the API that can be read from protobuf.
type message interface {
	runtime.Object
	Unmarshal([]byte) error
}

// wireDecoder decodes objects of one kind in protobuf, without the fields that policy does not need. It is for one
// goroutine.
type wireDecoder struct {
	kind   string
	empty  func() message // a new object
	keep   fields
	others runtime.Decoder // for other kinds, such as an error's Status, and other encodings

	trimmed []byte // one object; reused
}

// object decodes an object in its wrapper.
func (d *wireDecoder) object(data []byte) (runtime.Object, error) {
	if unknown, ok := bytes.CutPrefix(data, []byte(protobufMagic)); ok {
		kind, err := submessage(unknown, unknownType, typeKind)
		if err != nil {
			return nil, err
		}
		if string(kind) == d.kind {
			raw, err := submessage(unknown, unknownRaw)
			if err != nil {
				return nil, err
			}
			return d.item(raw)
		}
	}
	return runtime.Decode(d.others, data)
}

// item decodes an object.
func (d *wireDecoder) item(data []byte) (runtime.Object, error) {
	var err error
	if d.trimmed, err = d.keep.trim(d.trimmed[:0], data); err != nil {
		return nil, err
	}
	obj := d.empty()
	return obj, obj.Unmarshal(d.trimmed)
}

// submessage returns the contents of the field at path, each number within the field before it; nil if there is none.
func submessage(message []byte, path ...protowire.Number) ([]byte, error) {
	for len(message) > 0 {
		number, typ, tag := protowire.ConsumeTag(message)
		n := protowire.ConsumeFieldValue(number, typ, message[max(tag, 0):])
		if tag < 0 || n < 0 {
			return nil, protowire.ParseError(min(tag, n))
		}
		if number == path[0] && typ == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(message[tag:])
			if len(path) == 1 {
				return content, nil
			}
			return submessage(content, path[1:]...)
		}
		message = message[tag+n:]
	}
	return nil, nil
}
