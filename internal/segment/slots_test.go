// SPDX-License-Identifier: Apache-2.0

package segment_test

// The two hints: slots in turn, and each damaged byte.

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
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

// A slotVector is a slot with what it has: a state, or a handled number.
type slotVector struct {
	Name             string
	Generation       uint64
	Writer           string
	Next             uint64
	Starts           uint32
	Boot             string
	Orderly          bool
	Confirmed        uint32
	File             uint64
	Number           uint64 // Of a handled number; the others are those of a state.
	Offset           int64
	Bytes, Sum, Kind string // The beginning, and the last four bytes. Between them are zeros.
}

func TestSlots_Vectors_AreFormedAndRead(t *testing.T) {
	content, err := os.ReadFile("testdata/slots.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []slotVector
	if err := json.Unmarshal(content, &vectors); err != nil || len(vectors) < 4 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for _, v := range vectors {
		id, _ := hex.DecodeString(v.Writer)
		boot, _ := hex.DecodeString(v.Boot)
		begin, _ := hex.DecodeString(v.Bytes)
		sum, _ := hex.DecodeString(v.Sum)
		want := append(append(begin, make([]byte, 508-len(begin))...), sum...)
		var got []byte
		read := make([]byte, segment.SlotsSize)
		copy(read[v.Offset:], want)
		if v.Kind == "handled" {
			handled := segment.Handled{Writer: segment.WriterID(id), Number: v.Number}
			got = segment.AppendHandled(nil, v.Generation, handled)
			if h, generation, ok := segment.ParseHandled(read); h != handled || generation != v.Generation || !ok {
				t.Errorf("%s: read %+v of generation %d, %v; want %+v", v.Name, h, generation, ok, handled)
			}
		} else {
			state := segment.State{Writer: segment.WriterID(id), Next: v.Next, Starts: v.Starts, Boot: [16]byte(boot),
				Orderly: v.Orderly, Confirmed: v.Confirmed, File: v.File}
			got = segment.AppendState(nil, v.Generation, state)
			if s, generation, ok := segment.ParseState(read); s != state || generation != v.Generation || !ok {
				t.Errorf("%s: read %+v of generation %d, %v; want %+v", v.Name, s, generation, ok, state)
			}
		}
		if !bytes.Equal(got, want) || segment.SlotOffset(v.Generation) != v.Offset {
			t.Errorf("%s at %d:\nformed %x\nwant   %x", v.Name, segment.SlotOffset(v.Generation), got, want)
		}
	}
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

// TestIsSlots_OtherPrograms_AreNot: what damage makes of a file of slots still is one.
func TestIsSlots_OtherPrograms_AreNot(t *testing.T) {
	file := make([]byte, segment.SlotsSize)
	copy(file[segment.SlotOffset(1):], segment.AppendState(nil, 1, segment.State{Starts: 1}))
	for size := range file {
		if !segment.IsSlots(file[:size]) {
			t.Errorf("%d bytes of a file are none", size)
		}
	}
	for _, text := range []string{"running", "udstamp", "\x00udstate1", string(append(file, 'x'))[1:8000]} {
		if segment.IsSlots([]byte(text)) {
			t.Errorf("%.20q is one", text)
		}
	}
}
