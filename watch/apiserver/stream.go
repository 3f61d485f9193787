// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"slices"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/streaming"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	restwatch "k8s.io/client-go/rest/watch"
)

// eventReader reads the events of a watch. It decodes them as client-go would, without the copies.
type eventReader struct {
	items wireDecoder
	json  *runtime.StreamSerializerInfo

	body   io.Closer
	r      *bufio.Reader
	frame  []byte             // the current one; reused
	others *restwatch.Decoder // for a stream in JSON
}

// Close ends the stream.
func (e *eventReader) Close() { _ = e.body.Close() }

// Decode returns the next event.
func (e *eventReader) Decode() (apiwatch.EventType, runtime.Object, error) {
	if e.others == nil {
		first, err := e.r.Peek(1)
		if err != nil {
			return "", nil, err
		}
		if first[0] == '{' { // no frame is that long
			frames := e.json.NewFrameReader(io.NopCloser(e.r))
			e.others = restwatch.NewDecoder(streaming.NewDecoder(frames, e.json.Serializer), e.items.others)
		}
	}
	if e.others != nil {
		return e.others.Decode()
	}
	if err := e.readFrame(); err != nil {
		return "", nil, err
	}
	typ, err := submessage(e.frame, eventType)
	if err != nil {
		return "", nil, err
	}
	data, err := submessage(e.frame, eventObject, extensionRaw)
	if err != nil {
		return "", nil, err
	}
	obj, err := e.items.object(data)
	return apiwatch.EventType(typ), obj, err
}

// readFrame reads a length-prefixed message.
func (e *eventReader) readFrame() error {
	var length [4]byte
	if _, err := io.ReadFull(e.r, length[:]); err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(length[:])
	if n > maxField {
		return fmt.Errorf("an event has %d bytes", n)
	}
	e.frame = slices.Grow(e.frame[:0], int(n))[:n]
	_, err := io.ReadFull(e.r, e.frame)
	return unexpected(err)
}
