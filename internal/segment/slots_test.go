// SPDX-License-Identifier: Apache-2.0

package segment_test

// The two hints: slots in turn, and each damaged byte.

import (
	"bytes"
	"math"
	"testing"

	"github.com/udsipc/udsipc/internal/segment"
)

// slots puts slots where their generations belong.
func slots(slots map[uint64][]byte) []byte {
	b := make([]byte, segment.SlotsSize)
	for generation, slot := range slots {
		copy(b[segment.SlotOffset(generation):], slot)
	}
	return b
}

func TestState_Slots_NewerIsRead(t *testing.T) {
	older := segment.State{Writer: writer, Next: 9, Starts: 3}
	newer := segment.State{Writer: writer, Next: math.MaxUint64, Starts: math.MaxUint32,
		Boot: [16]byte{1, 15: 2}, Orderly: true, Confirmed: math.MaxUint32 - 1, File: math.MaxUint64}
	for _, g := range []uint64{0, 1, 6, math.MaxUint64 - 1} {
		first, second := segment.AppendState(nil, g, older), segment.AppendState(nil, g+1, newer)
		b := slots(map[uint64][]byte{g: first, g + 1: second})
		if got, generation, ok := segment.ParseState(b); got != newer || generation != g+1 || !ok {
			t.Errorf("%+v of generation %d, %v; want %+v of %d", got, generation, ok, newer, g+1)
		}
		for i := range second { // A slot that was written in part leaves the other one.
			torn := bytes.Clone(b)
			torn[segment.SlotOffset(g+1)+int64(i)] ^= 4
			if got, generation, ok := segment.ParseState(torn); got != older || generation != g || !ok {
				t.Fatalf("byte %d: %+v of generation %d, %v; want %+v of %d", i, got, generation, ok, older, g)
			}
		}
	}
}

func TestHandled_Slots_NewerIsRead(t *testing.T) {
	older, newer := segment.Handled{Writer: writer, Number: 7}, segment.Handled{Writer: writer, Number: 1 << 60}
	b := slots(map[uint64][]byte{3: segment.AppendHandled(nil, 3, newer), 2: segment.AppendHandled(nil, 2, older)})
	if got, generation, ok := segment.ParseHandled(b); got != newer || generation != 3 || !ok {
		t.Errorf("%+v of generation %d, %v; want %+v of 3", got, generation, ok, newer)
	}
	if got, _, ok := segment.ParseState(b); ok {
		t.Errorf("a handled number was read as the state %+v", got)
	}
	for n := range len(b) {
		got, _, ok := segment.ParseHandled(b[:n])
		if want := int64(n) >= segment.SlotOffset(2)+512; ok != want || ok && n < 4096+512 && got != older {
			t.Fatalf("%d bytes: %+v, %v; want %v", n, got, ok, want)
		}
	}
}

// FuzzState: no bytes make it panic, and what is read forms a slot that is read the same.
func FuzzState(f *testing.F) {
	f.Add([]byte{})
	f.Add(make([]byte, segment.SlotsSize))
	state := segment.AppendState(nil, 2, segment.State{Writer: writer, Next: 9, Starts: 3, Orderly: true,
		Confirmed: 2})
	f.Add(slots(map[uint64][]byte{2: state}))
	f.Add(slots(map[uint64][]byte{2: state, 3: segment.AppendHandled(nil, 3, segment.Handled{Writer: writer, Number: 8})}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, generation, ok := segment.ParseState(b); ok {
			formed := slots(map[uint64][]byte{generation: segment.AppendState(nil, generation, s)})
			if again, g, ok := segment.ParseState(formed); again != s || g != generation || !ok {
				t.Errorf("%+v of generation %d; again %+v of %d", s, generation, again, g)
			}
		}
		if h, generation, ok := segment.ParseHandled(b); ok {
			formed := slots(map[uint64][]byte{generation: segment.AppendHandled(nil, generation, h)})
			if again, g, ok := segment.ParseHandled(formed); again != h || g != generation || !ok {
				t.Errorf("%+v of generation %d; again %+v of %d", h, generation, again, g)
			}
		}
	})
}
