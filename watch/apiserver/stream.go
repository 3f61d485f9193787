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
	take  func(apiwatch.Event) bool // takes events before the watcher; nil takes none

	body   io.Closer
	r      *bufio.Reader
	frame  []byte             // the current one; reused
	others *restwatch.Decoder // for a stream in JSON
}

// Decode returns the next event that take does not take.
func (e *eventReader) Decode() (apiwatch.EventType, runtime.Object, error) {
	for {
		event, err := e.next()
		if err != nil {
			return "", nil, err
		}
		taken := e.take != nil && e.take(event)
		if !taken {
			return event.Type, event.Object, nil
		}
	}
}

// Close ends the stream.
func (e *eventReader) Close() { _ = e.body.Close() }

// next returns the next event.
func (e *eventReader) next() (apiwatch.Event, error) {
	if e.others == nil {
		first, err := e.r.Peek(1)
		if err != nil {
			return apiwatch.Event{}, err
		}
		if first[0] == '{' { // no frame is that long
			frames := e.json.NewFrameReader(io.NopCloser(e.r))
			e.others = restwatch.NewDecoder(streaming.NewDecoder(frames, e.json.Serializer), e.items.others)
		}
	}
	if e.others != nil {
		typ, obj, err := e.others.Decode()
		return apiwatch.Event{Type: typ, Object: obj}, err
	}
	if err := e.readFrame(); err != nil {
		return apiwatch.Event{}, err
	}
	typ, err := submessage(e.frame, eventType)
	if err != nil {
		return apiwatch.Event{}, err
	}
	data, err := submessage(e.frame, eventObject, extensionRaw)
	if err != nil {
		return apiwatch.Event{}, err
	}
	obj, err := e.items.object(data)
	return apiwatch.Event{Type: apiwatch.EventType(typ), Object: obj}, err
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
