// SPDX-License-Identifier: Apache-2.0

package nft

import "iter"

// delta pairs the map that is wanted with the map that the kernel holds. It stores the wanted one, and of the held one
// only the keys where the two differ, so that in the steady state nothing is stored twice and the difference is always
// at hand.
//
//	          want                 held
//	┌──────────────────────┬─────────────────────┐
//	│ only wanted: add     │ only held: delete   │   differs[k] = what is held
//	│              ┌───────┴──────┐              │
//	│              │ both, unequal│: delete, add │   differs[k] = what is held
//	│              │ both, equal  │: nothing     │   no entry
//	└──────────────┴──────────────┴──────────────┘
//
// The zero value wants and holds nothing.
type delta[K, V comparable] struct {
	want    map[K]V
	differs map[K]held[V]
	known   bool // false: the kernel holds nothing of this, all of want is missing there
}

// held is the kernel's side of one key.
type held[V any] struct {
	value   V
	present bool
}

// set wants v at k.
func (d *delta[K, V]) set(k K, v V) {
	if d.want == nil {
		d.want = make(map[K]V)
	}
	old, had := d.want[k]
	if had && old == v {
		return
	}
	d.want[k] = v
	d.note(k, held[V]{old, had}, held[V]{v, true})
}

// unset wants nothing at k.
func (d *delta[K, V]) unset(k K) {
	old, had := d.want[k]
	if !had {
		return
	}
	delete(d.want, k)
	d.note(k, held[V]{old, true}, held[V]{})
}

// note records that what is wanted at k went from one value to another.
func (d *delta[K, V]) note(k K, from, to held[V]) {
	if !d.known {
		return
	}
	if kernel, differed := d.differs[k]; differed {
		from = kernel
	}
	d.compare(k, to, from)
}

// compare notes what the kernel holds at k if something else is wanted.
func (d *delta[K, V]) compare(k K, want, kernel held[V]) {
	if kernel == want {
		delete(d.differs, k)
		return
	}
	if d.differs == nil {
		d.differs = make(map[K]held[V])
	}
	d.differs[k] = kernel
}

// take calls drop for each key and value that the kernel holds and should not, then add for each that it lacks; from
// then on the delta takes the wanted state as held. Its cost is that of the calls.
//
// A key whose value changes is dropped just before it is added. Until the first call, and after forget, there is
// nothing to drop.
func (d *delta[K, V]) take(drop, add func(K, V)) {
	if !d.known {
		d.known = true
		for k, v := range d.want {
			add(k, v)
		}
		return
	}
	for k, kernel := range d.differs {
		if kernel.present {
			drop(k, kernel.value)
		}
		if v, wanted := d.want[k]; wanted {
			add(k, v)
		}
	}
	d.differs = nil
}

// heldAt returns what the kernel holds at k.
func (d *delta[K, V]) heldAt(k K) (V, bool) {
	if kernel, differs := d.differs[k]; differs {
		return kernel.value, kernel.present
	}
	v, wanted := d.want[k]
	return v, wanted && d.known
}

// hold says that the kernel holds v at k, or nothing, after all.
func (d *delta[K, V]) hold(k K, kernel held[V]) {
	v, wanted := d.want[k]
	d.compare(k, held[V]{v, wanted}, kernel)
}

// forget says that the kernel holds nothing.
func (d *delta[K, V]) forget() {
	d.known, d.differs = false, nil
}

// held yields what the kernel holds.
func (d *delta[K, V]) held() iter.Seq2[K, V] {
	return func(yield func(K, V) bool) {
		if !d.known {
			return
		}
		for k, v := range d.want {
			if _, differs := d.differs[k]; !differs && !yield(k, v) {
				return
			}
		}
		for k, kernel := range d.differs {
			if kernel.present && !yield(k, kernel.value) {
				return
			}
		}
	}
}

// heldLen is the number of keys that the kernel holds.
func (d *delta[K, V]) heldLen() int {
	if !d.known {
		return 0
	}
	n := len(d.want)
	for k, kernel := range d.differs {
		if _, wanted := d.want[k]; wanted {
			n--
		}
		if kernel.present {
			n++
		}
	}
	return n
}
