// SPDX-License-Identifier: Apache-2.0

package nft

import "iter"

// elements are those of a set, wanted and held. Most of a large table's are addresses and nothing else, as the pods of
// all namespaces: they are apart, in a quarter of the memory. An element is in one of the two.
type elements struct {
	addrs  delta[[16]byte, struct{}] // of address sets, without verdict and comment
	others delta[Key, Value]
}

// isAddr says whether the key is an address and nothing else.
func (k Key) isAddr() bool { return k == Key{Addr: k.Addr} }

func (e *elements) set(k Key, v Value) {
	if k.isAddr() && v == (Value{}) {
		e.others.unset(k)
		e.addrs.set(k.Addr, struct{}{})
		return
	}
	if k.isAddr() {
		e.addrs.unset(k.Addr)
	}
	e.others.set(k, v)
}

func (e *elements) unset(k Key) {
	if k.isAddr() {
		e.addrs.unset(k.Addr)
	}
	e.others.unset(k)
}

func (e *elements) len() int { return len(e.addrs.want) + len(e.others.want) }

func (e *elements) get(k Key) (Value, bool) {
	if v, ok := e.others.want[k]; ok {
		return v, true
	}
	_, ok := e.addrs.want[k.Addr]
	return Value{}, ok && k.isAddr()
}

// all yields what is wanted.
func (e *elements) all() iter.Seq2[Key, Value] {
	return func(yield func(Key, Value) bool) {
		for a := range e.addrs.want {
			if !yield(Key{Addr: a}, Value{}) {
				return
			}
		}
		for k, v := range e.others.want {
			if !yield(k, v) {
				return
			}
		}
	}
}

// clear wants nothing.
func (e *elements) clear() {
	for k := range e.all() {
		e.unset(k)
	}
}

func (e *elements) known() bool { return e.others.known }

// take is [delta.take].
func (e *elements) take(drop, add func(Key, Value)) {
	addr := func(f func(Key, Value)) func([16]byte, struct{}) {
		return func(a [16]byte, _ struct{}) { f(Key{Addr: a}, Value{}) }
	}
	e.addrs.take(addr(drop), addr(add))
	e.others.take(drop, add)
}

// heldAt returns what the kernel holds at k.
func (e *elements) heldAt(k Key) (Value, bool) {
	if v, ok := e.others.heldAt(k); ok {
		return v, true
	}
	_, ok := e.addrs.heldAt(k.Addr)
	return Value{}, ok && k.isAddr()
}

// keep says that the kernel still holds v at k, which is not wanted.
func (e *elements) keep(k Key, v Value) {
	if k.isAddr() && v == (Value{}) {
		e.addrs.hold(k.Addr, held[struct{}]{present: true})
		return
	}
	e.others.hold(k, held[Value]{v, true})
}

// lose says that the kernel holds nothing at k any more.
func (e *elements) lose(k Key) {
	if k.isAddr() {
		e.addrs.hold(k.Addr, held[struct{}]{})
	}
	e.others.hold(k, held[Value]{})
}

func (e *elements) forget() {
	e.addrs.forget()
	e.others.forget()
}

// held yields the keys of the elements that the kernel holds.
func (e *elements) held() iter.Seq[Key] {
	return func(yield func(Key) bool) {
		for a := range e.addrs.held() {
			if !yield(Key{Addr: a}) {
				return
			}
		}
		for k := range e.others.held() {
			if !yield(k) {
				return
			}
		}
	}
}

// heldLen is the number of elements that the kernel holds.
func (e *elements) heldLen() int { return e.addrs.heldLen() + e.others.heldLen() }
