// SPDX-License-Identifier: Apache-2.0

package nft

import (
	"iter"

	"github.com/netpold/netpold/nft/delta"
)

// elements are the wanted and held elements of a set. Most in a large table are bare addresses, such as the pods of all
// namespaces; they are kept apart, in a quarter of the memory. An element is in one of the two maps.
type elements struct {
	addrs  delta.Map[[16]byte, struct{}] // of address sets, without verdict and comment
	others delta.Map[Key, Value]
}

// isAddr says whether the key is a bare address.
func (k Key) isAddr() bool { return k == Key{Addr: k.Addr} }

func (e *elements) set(k Key, v Value) {
	if k.isAddr() && v == (Value{}) {
		e.others.Unset(k)
		e.addrs.Set(k.Addr, struct{}{})
		return
	}
	if k.isAddr() {
		e.addrs.Unset(k.Addr)
	}
	e.others.Set(k, v)
}

func (e *elements) unset(k Key) {
	if k.isAddr() {
		e.addrs.Unset(k.Addr)
	}
	e.others.Unset(k)
}

func (e *elements) len() int { return len(e.addrs.Want()) + len(e.others.Want()) }

func (e *elements) get(k Key) (Value, bool) {
	if v, ok := e.others.Want()[k]; ok {
		return v, true
	}
	_, ok := e.addrs.Want()[k.Addr]
	return Value{}, ok && k.isAddr()
}

// all yields the wanted elements.
func (e *elements) all() iter.Seq2[Key, Value] {
	return func(yield func(Key, Value) bool) {
		for a := range e.addrs.Want() {
			if !yield(Key{Addr: a}, Value{}) {
				return
			}
		}
		for k, v := range e.others.Want() {
			if !yield(k, v) {
				return
			}
		}
	}
}

// clear makes all elements unwanted.
func (e *elements) clear() {
	for k := range e.all() {
		e.unset(k)
	}
}

func (e *elements) known() bool { return e.others.Known() }

// take is [delta.Map.Take].
func (e *elements) take(drop, add func(Key, Value)) {
	addr := func(f func(Key, Value)) func([16]byte, struct{}) {
		return func(a [16]byte, _ struct{}) { f(Key{Addr: a}, Value{}) }
	}
	e.addrs.Take(addr(drop), addr(add))
	e.others.Take(drop, add)
}

// heldAt returns what the kernel holds at k.
func (e *elements) heldAt(k Key) (Value, bool) {
	if v, ok := e.others.HeldAt(k); ok {
		return v, true
	}
	_, ok := e.addrs.HeldAt(k.Addr)
	return Value{}, ok && k.isAddr()
}

// keep notes that the kernel still holds v at k, which is not wanted.
func (e *elements) keep(k Key, v Value) {
	if k.isAddr() && v == (Value{}) {
		e.addrs.Keep(k.Addr, struct{}{})
		return
	}
	e.others.Keep(k, v)
}

// lose notes that the kernel no longer holds anything at k.
func (e *elements) lose(k Key) {
	if k.isAddr() {
		e.addrs.Lose(k.Addr)
	}
	e.others.Lose(k)
}

func (e *elements) forget() {
	e.addrs.Forget()
	e.others.Forget()
}

// held yields the keys of the elements that the kernel holds.
func (e *elements) held() iter.Seq[Key] {
	return func(yield func(Key) bool) {
		for a := range e.addrs.Held() {
			if !yield(Key{Addr: a}) {
				return
			}
		}
		for k := range e.others.Held() {
			if !yield(k) {
				return
			}
		}
	}
}

// heldLen returns the number of elements that the kernel holds.
func (e *elements) heldLen() int { return e.addrs.HeldLen() + e.others.HeldLen() }
