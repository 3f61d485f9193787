// SPDX-License-Identifier: Apache-2.0

package apiserver

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// listReader reads a list as it arrives, and hands over each item before it reads the next. A server that cannot stream
// lists sends all pods of the cluster in one: gigabytes, if decoded as a whole.
type listReader struct {
	items wireDecoder
	each  func(runtime.Object) error // takes an item
	end   metav1.ListMeta            // the list's metadata: version and next page
	field []byte                     // the current one; reused
}

// Fields of every list.
const (
	listMeta  protowire.Number = 1
	listItems protowire.Number = 2
)

// maxField is more than an object can have in the API server's store.
const maxField = 16 << 20

// read reads a list to its end.
func (l *listReader) read(body io.Reader) error {
	r := bufio.NewReader(body)
	magic, err := r.Peek(len(protobufMagic))
	if err != nil {
		return fmt.Errorf("read a list: %w", err)
	}
	if string(magic) != protobufMagic {
		return l.readOther(r)
	}
	_, _ = r.Discard(len(protobufMagic)) // just peeked
	missing := true
	err = eachField(r, func(number protowire.Number, size int64) error {
		if number != unknownRaw {
			_, err := io.CopyN(io.Discard, r, size)
			return err
		}
		missing = false
		raw := &io.LimitedReader{R: r, N: size}
		buffered := bufio.NewReaderSize(raw, 64<<10)
		err := eachField(buffered, func(number protowire.Number, size int64) error {
			return l.readField(buffered, number, size)
		})
		if err == nil && raw.N > 0 {
			err = io.ErrUnexpectedEOF
		}
		return err
	})
	if err == nil && missing {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read a list: %w", err)
	}
	return nil
}

// eachField calls f for each field of a message that consists of strings, bytes and messages; f must read size bytes.
func eachField(r *bufio.Reader, f func(number protowire.Number, size int64) error) error {
	for {
		tag, err := binary.ReadUvarint(r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		number, typ := protowire.DecodeTag(tag)
		if typ != protowire.BytesType {
			return fmt.Errorf("field %d has type %d, which no list has", number, typ)
		}
		size, err := binary.ReadUvarint(r)
		if err != nil {
			return unexpected(err)
		}
		if err := f(number, int64(size)); err != nil {
			return unexpected(err)
		}
	}
}

// unexpected turns io.EOF inside a message into io.ErrUnexpectedEOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// readField reads one field of the list.
func (l *listReader) readField(r io.Reader, number protowire.Number, size int64) error {
	if size < 0 || size > maxField {
		return fmt.Errorf("field %d has %d bytes", number, size)
	}
	l.field = slices.Grow(l.field[:0], int(size))[:size]
	if _, err := io.ReadFull(r, l.field); err != nil {
		return err
	}
	switch number {
	case listMeta:
		return l.end.Unmarshal(l.field)
	case listItems:
		obj, err := l.items.item(l.field)
		if err != nil {
			return err
		}
		return l.each(obj)
	}
	return nil
}

// readOther reads a list in JSON, all at once.
func (l *listReader) readOther(r io.Reader) error {
	text, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("read a list: %w", err)
	}
	list, err := runtime.Decode(l.items.others, text)
	if err != nil {
		return fmt.Errorf("read a list: %w", err)
	}
	end, err := meta.ListAccessor(list)
	if err != nil {
		return fmt.Errorf("read a list: %w", err)
	}
	l.end = metav1.ListMeta{ResourceVersion: end.GetResourceVersion(), Continue: end.GetContinue()}
	return meta.EachListItem(list, l.each)
}
