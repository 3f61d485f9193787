// SPDX-License-Identifier: Apache-2.0

package delta

import (
	"maps"
	"math/rand/v2"
	"testing"
)

// deltaModel is a map beside what it stands for: two plain maps.
type deltaModel struct {
	t          *testing.T
	delta      Map[uint8, uint8]
	want, held map[uint8]uint8
}

func newDeltaModel(t *testing.T) *deltaModel {
	t.Helper()
	return &deltaModel{t: t, want: make(map[uint8]uint8), held: make(map[uint8]uint8)}
}

// edit does the operation that three bytes stand for. There are few keys and values, so that operations meet.
func (m *deltaModel) edit(op, k, v uint8) {
	k, v = k%16, v%3
	switch {
	case op < 120:
		m.delta.Set(k, v)
		m.want[k] = v
	case op < 230:
		m.delta.Unset(k)
		delete(m.want, k)
	case op < 250:
		m.commit()
	default:
		m.delta.Forget()
		clear(m.held)
	}
	m.check()
}

// commit applies what take returns to the held map, strictly, and checks that it becomes the wanted one.
func (m *deltaModel) commit() {
	differ, calls := m.differ(), 0
	m.delta.Take(
		func(k, v uint8) {
			calls++
			if have, ok := m.held[k]; !ok || have != v {
				m.t.Errorf("drop of %d = %d; held is %d, %t", k, v, have, ok)
			}
			delete(m.held, k)
		},
		func(k, v uint8) {
			calls++
			if have, ok := m.held[k]; ok {
				m.t.Errorf("add of %d = %d; %d is still held", k, v, have)
			}
			m.held[k] = v
		})
	if calls < differ || calls > 2*differ {
		m.t.Errorf("%d calls for %d keys that differ", calls, differ)
	}
	if !maps.Equal(m.held, m.want) {
		m.t.Errorf("held %v, want %v", m.held, m.want)
	}
}

// differ counts the keys at which the maps differ.
func (m *deltaModel) differ() int {
	n := 0
	for k := range uint8(16) {
		w, wanted := m.want[k]
		h, held := m.held[k]
		if wanted != held || w != h {
			n++
		}
	}
	return n
}

func (m *deltaModel) check() {
	if !maps.Equal(m.delta.want, m.want) {
		m.t.Errorf("wants %v, want %v", m.delta.want, m.want)
	}
	if n := m.differ(); m.delta.known && len(m.delta.differs) != n {
		m.t.Errorf("knows of %d keys that differ, not of %d", len(m.delta.differs), n)
	}
}

// TestMap edits a delta at random.
func TestMap(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		m := newDeltaModel(t)
		for range 500 {
			m.edit(uint8(r.Uint32()), uint8(r.Uint32()), uint8(r.Uint32()))
		}
		m.commit()
		if t.Failed() {
			return
		}
	}
}

func FuzzMap(f *testing.F) {
	f.Add([]byte{0, 1, 1, 240, 0, 0, 0, 1, 2, 130, 1, 0, 0, 1, 1, 240, 0, 0, 255, 0, 0})
	f.Fuzz(func(t *testing.T, ops []byte) {
		m := newDeltaModel(t)
		for ; len(ops) >= 3; ops = ops[3:] {
			m.edit(ops[0], ops[1], ops[2])
		}
		m.commit()
	})
}

// TestMapOfNothing: the zero value is usable.
func TestMapOfNothing(*testing.T) {
	var d Map[string, int]
	d.Unset("a")
	d.Forget()
	d.Take(nil, nil)
	d.Unset("a")
	d.Take(nil, nil)
}

// TestMapCost: a small change of a large map takes few calls.
func TestMapCost(t *testing.T) {
	const size = 100_000
	var d Map[int, int]
	calls := 0
	count := func(int, int) { calls++ }
	for i := range size {
		d.Set(i, 0)
	}
	d.Take(count, count)
	if calls != size {
		t.Errorf("%d calls for the first %d elements", calls, size)
	}
	for name, row := range map[string]struct {
		edit func()
		want int
	}{
		"nothing":   {func() {}, 0},
		"no change": {func() { d.Set(1, 0) }, 0},
		"to and fro": {func() {
			d.Set(1, 1)
			d.Set(1, 0)
			d.Unset(2)
			d.Set(2, 0)
			d.Set(-1, 0)
			d.Unset(-1)
		}, 0},
		"add and delete":  {func() { d.Set(size, 0); d.Unset(10) }, 2},
		"change":          {func() { d.Set(20, 1) }, 2},
		"change, deleted": {func() { d.Set(30, 1); d.Unset(30) }, 1},
		"added, changed":  {func() { d.Set(size+1, 1); d.Set(size+1, 2) }, 1},
	} {
		calls = 0
		row.edit()
		d.Take(count, count)
		if calls != row.want {
			t.Errorf("%s: %d calls, want %d", name, calls, row.want)
		}
	}
}
