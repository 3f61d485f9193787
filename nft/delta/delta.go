// SPDX-License-Identifier: Apache-2.0

// Package delta has a map that is wanted, and knows where the map that the kernel holds differs from it.
package delta

import "iter"

// Map pairs the wanted map with the one that the kernel holds. It stores the wanted one, and of the held one only the
// keys where they differ, so that in the steady state nothing is stored twice and the difference is always at hand.
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
type Map[K, V comparable] struct {
	want    map[K]V
	differs map[K]held[V]
	known   bool // false: the kernel holds nothing, all of want is missing
}

// held is the kernel's side of one key.
type held[V any] struct {
	value   V
	present bool
}

// Want returns the wanted map; the caller must not change it.
func (d *Map[K, V]) Want() map[K]V { return d.want }

// Known says whether anything was taken since the last [Map.Forget].
func (d *Map[K, V]) Known() bool { return d.known }

// Set wants v at k.
func (d *Map[K, V]) Set(k K, v V) {
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

// Unset wants nothing at k.
func (d *Map[K, V]) Unset(k K) {
	old, had := d.want[k]
	if !had {
		return
	}
	delete(d.want, k)
	d.note(k, held[V]{old, true}, held[V]{})
}

// note records that the wanted value at k changed.
func (d *Map[K, V]) note(k K, from, to held[V]) {
	if !d.known {
		return
	}
	if kernel, differed := d.differs[k]; differed {
		from = kernel
	}
	d.compare(k, to, from)
}

// compare notes what the kernel holds at k, if it is not what is wanted.
func (d *Map[K, V]) compare(k K, want, kernel held[V]) {
	if kernel == want {
		delete(d.differs, k)
		return
	}
	if d.differs == nil {
		d.differs = make(map[K]held[V])
	}
	d.differs[k] = kernel
}

// Take calls drop for each key and value that the kernel holds and should not, and then add for each that it lacks;
// from then on the map considers the wanted state held. It costs only the calls.
//
// A key whose value changes is dropped just before it is added. Until the first call, and after [Map.Forget], there is
// nothing to drop.
func (d *Map[K, V]) Take(drop, add func(K, V)) {
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

// HeldAt returns what the kernel holds at k.
func (d *Map[K, V]) HeldAt(k K) (V, bool) {
	if kernel, differs := d.differs[k]; differs {
		return kernel.value, kernel.present
	}
	v, wanted := d.want[k]
	return v, wanted && d.known
}

// Keep notes that the kernel holds v at k after all.
func (d *Map[K, V]) Keep(k K, v V) { d.hold(k, held[V]{v, true}) }

// Lose notes that the kernel holds nothing at k after all.
func (d *Map[K, V]) Lose(k K) { d.hold(k, held[V]{}) }

func (d *Map[K, V]) hold(k K, kernel held[V]) {
	v, wanted := d.want[k]
	d.compare(k, held[V]{v, wanted}, kernel)
}

// Forget notes that the kernel holds nothing.
func (d *Map[K, V]) Forget() {
	d.known, d.differs = false, nil
}

// Held yields what the kernel holds.
func (d *Map[K, V]) Held() iter.Seq2[K, V] {
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

// Changed yields the keys that the kernel holds with a value other than the wanted one.
func (d *Map[K, V]) Changed() iter.Seq[K] {
	return func(yield func(K) bool) {
		for k, kernel := range d.differs {
			if _, wanted := d.want[k]; wanted && kernel.present && !yield(k) {
				return
			}
		}
	}
}

// HeldLen returns the number of keys that the kernel holds.
func (d *Map[K, V]) HeldLen() int {
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
