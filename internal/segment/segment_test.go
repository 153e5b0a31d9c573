// SPDX-License-Identifier: Apache-2.0

package segment_test

// Headers, names and batches against the vectors, and each damaged byte.

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"slices"
	"testing"

	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/internal/wire"
)

var writer = segment.WriterID{0xde, 0xad, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

// batch forms a batch of messages.
func batch(id segment.WriterID, first uint64, messages ...string) []byte {
	b := make([]byte, segment.BatchHeaderSize)
	for _, message := range messages {
		b = wire.AppendFrame(b, []byte(message))
	}
	segment.SealBatch(b, id, first, len(messages))
	return b
}

// file forms a segment of batches; bounds has where each begins, and the end.
func file(first uint64, batches ...[]byte) (b []byte, bounds []int64) {
	b = segment.AppendHeader(nil, segment.Header{Writer: writer, First: first})
	for _, one := range batches {
		bounds = append(bounds, int64(len(b)))
		b = append(b, one...)
	}
	return b, append(bounds, int64(len(b)))
}

// sample is a segment of four batches with the messages 5 to 11; numbers has the first of each, and the
// next one.
func sample() (b []byte, bounds []int64, numbers []uint64) {
	b, bounds = file(5, batch(writer, 5, "one", ""), batch(writer, 7, "three"),
		batch(writer, 8, "four", "five", "six"), batch(writer, 11, string(bytes.Repeat([]byte{0}, 30))))
	return b, bounds, []uint64{5, 7, 8, 11, 12}
}

// A vector is a segment with what it has.
type vector struct {
	Name, File, Writer, Bytes string
	First                     uint64
	Batches                   []struct {
		First    uint64
		Messages []string
	}
}

func TestSegment_Vectors_AreFormedAndRead(t *testing.T) {
	content, err := os.ReadFile("testdata/segments.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(content, &vectors); err != nil || len(vectors) < 3 {
		t.Fatalf("%d vectors: %v", len(vectors), err)
	}
	for _, v := range vectors {
		id, _ := hex.DecodeString(v.Writer)
		want, _ := hex.DecodeString(v.Bytes)
		got := segment.AppendHeader(nil, segment.Header{Writer: segment.WriterID(id), First: v.First})
		reader := segment.NewReader(bytes.NewReader(want), segment.WriterID(id))
		offset := int64(len(got))
		for _, one := range v.Batches {
			formed := batch(segment.WriterID(id), one.First, one.Messages...)
			got = append(got, formed...)
			read, err := reader.ReadBatch(offset, int64(len(want)))
			if err != nil || read.First != one.First || read.Count != len(one.Messages) ||
				!bytes.Equal(read.Frames, formed[segment.BatchHeaderSize:]) || read.Start != offset {
				t.Errorf("%s: read %+v, %v; want %d with %q", v.Name, read, err, one.First, one.Messages)
			}
			offset = read.End
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s:\nformed %x\nwant   %x", v.Name, got, want)
		}
		start, first, ok := segment.ParseName(v.File)
		if !ok || first != v.First || segment.Name(start, first) != v.File {
			t.Errorf("%s: the name %s is %d-%d, %v", v.Name, v.File, start, first, ok)
		}
	}
}

func TestHeader_EachBit_IsChecked(t *testing.T) {
	want := segment.Header{Writer: writer, First: math.MaxUint64 - 7}
	b := segment.AppendHeader(nil, want)
	if got, err := segment.ParseHeader(append(b, 1, 2)); got != want || err != nil || len(b) != segment.HeaderSize {
		t.Fatalf("%+v of %d bytes, %v; want %+v", got, len(b), err, want)
	}
	for n := range b {
		if _, err := segment.ParseHeader(b[:n]); !errors.Is(err, segment.ErrDamaged) {
			t.Errorf("%d bytes: %v", n, err)
		}
		for bit := range 8 {
			damaged := bytes.Clone(b)
			damaged[n] ^= 1 << bit
			if got, err := segment.ParseHeader(damaged); !errors.Is(err, segment.ErrDamaged) {
				t.Errorf("bit %d of byte %d: %+v, %v", bit, n, got, err)
			}
		}
	}
}

func TestName_Order_IsThatOfMessages(t *testing.T) {
	var names []string
	for _, start := range []uint32{0, 1, 9, 10, 255, 1 << 31, math.MaxUint32} {
		for _, first := range []uint64{1, 15, 16, 1 << 40, math.MaxUint64} {
			name := segment.Name(start, first)
			gotStart, gotFirst, ok := segment.ParseName(name)
			if gotStart != start || gotFirst != first || !ok {
				t.Errorf("%s is %d-%d, %v", name, gotStart, gotFirst, ok)
			}
			names = append(names, name)
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("%q", names)
	}
	for _, name := range []string{"", ".seg", "state", "handled", "00000001-0000000000000001", "1-1.seg",
		"00000001-000000000000000A.seg", "00000001-0000000000000001.seg.bad", "+0000001-0000000000000001.seg",
		"000000001-0000000000000001.seg", "00000001_0000000000000001.seg"} {
		if start, first, ok := segment.ParseName(name); ok || start != 0 || first != 0 {
			t.Errorf("%q is %d-%d", name, start, first)
		}
	}
}

// readAll reads a damaged segment to its end; lost has the numbers that are missing below end.
func readAll(t *testing.T, file io.ReaderAt, size int64, next, end uint64) (found []segment.Batch, lost []uint64) {
	t.Helper()
	reader := segment.NewReader(file, writer)
	for offset := int64(segment.HeaderSize); ; {
		b, err := reader.ReadBatch(offset, size)
		if err != nil && err != io.EOF {
			b, err = reader.Find(offset, size, next, end)
		}
		stop := err != nil
		if stop {
			b.First = end
		}
		for ; next < b.First; next++ {
			lost = append(lost, next)
		}
		if stop {
			return found, lost
		}
		b.Frames = bytes.Clone(b.Frames)
		found = append(found, b)
		next, offset = b.Next(), b.End
	}
}

// TestRead_EachBit_LosesItsBatch: what a changed bit costs is its batch, and nothing else.
func TestRead_EachBit_LosesItsBatch(t *testing.T) {
	b, bounds, numbers := sample()
	whole, _ := readAll(t, bytes.NewReader(b), int64(len(b)), 5, 12)
	for at := segment.HeaderSize; at < len(b); at++ {
		hit := slices.IndexFunc(bounds, func(bound int64) bool { return bound > int64(at) }) - 1
		for bit := range 8 {
			damaged := bytes.Clone(b)
			damaged[at] ^= 1 << bit
			found, lost := readAll(t, bytes.NewReader(damaged), int64(len(b)), 5, 12)
			var want []uint64
			for n := numbers[hit]; n < numbers[hit+1]; n++ {
				want = append(want, n)
			}
			rest := slices.Delete(slices.Clone(whole), hit, hit+1)
			same := func(a, b segment.Batch) bool { return a.First == b.First && bytes.Equal(a.Frames, b.Frames) }
			if !slices.Equal(lost, want) || !slices.EqualFunc(found, rest, same) {
				t.Fatalf("bit %d of byte %d: lost %v, want %v; found %+v", bit, at, lost, want, found)
			}
		}
	}
}

// TestRead_Torn_FindsPrefix: a segment that is cut, zeroed or filled with garbage from each byte on.
func TestRead_Torn_FindsPrefix(t *testing.T) {
	b, bounds, _ := sample()
	for at := segment.HeaderSize; at < len(b); at++ {
		zeroed, garbage := bytes.Clone(b), bytes.Clone(b)
		clear(zeroed[at:])
		for i := at; i < len(b); i++ {
			garbage[i] = byte(i*7) ^ ^b[i]
		}
		for name, damaged := range map[string][]byte{"cut": b[:at], "zeroed": zeroed, "garbage": garbage} {
			found, _ := readAll(t, bytes.NewReader(damaged), int64(len(damaged)), 5, 12)
			want := 0 // The batches that the damage left as they were.
			for want < 4 && int(bounds[want+1]) <= len(damaged) &&
				bytes.Equal(damaged[:bounds[want+1]], b[:bounds[want+1]]) {
				want++
			}
			if len(found) != want {
				t.Errorf("%s from byte %d on: %d batches, want %d", name, at, len(found), want)
			}
		}
	}
}

// TestRead_Foreign_IsDamage: a batch of another writer or place, and one with a wrong count.
func TestRead_Foreign_IsDamage(t *testing.T) {
	other := segment.WriterID{1}
	miscounted := batch(writer, 5, "a", "b")
	segment.SealBatch(miscounted, writer, 5, 1)
	half := batch(writer, 5, "abc")[:segment.BatchHeaderSize+3]
	segment.SealBatch(half, writer, 5, 1)
	for name, one := range map[string][]byte{
		"another writer": batch(other, 5, "a"), "count": miscounted, "half a frame": half, "no message": batch(writer, 5),
		"number 0": batch(writer, 0, "a"), "last number": batch(writer, math.MaxUint64, "a"),
		"zeros": make([]byte, 100),
	} {
		b, bounds := file(5, one)
		_, err := segment.NewReader(bytes.NewReader(b), writer).ReadBatch(bounds[0], int64(len(b)))
		if !errors.Is(err, segment.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b, bounds := file(5, batch(writer, 5, "damaged"), batch(writer, 5, "before it"), batch(writer, 6, "x"),
		batch(writer, 90, "y"))
	b[bounds[1]-1]++
	reader := segment.NewReader(bytes.NewReader(b), writer)
	if got, err := reader.Find(bounds[0], int64(len(b)), 6, 90); got.First != 6 || err != nil {
		t.Errorf("found %+v, %v; want the batch of message 6", got, err)
	}
	if got, err := reader.Find(bounds[2], int64(len(b)), 7, 90); err != io.EOF {
		t.Errorf("found %+v, %v; want nothing below 90", got, err)
	}
}
