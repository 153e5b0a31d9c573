// SPDX-License-Identifier: Apache-2.0

package segment_test

// Bounds of memory and work, read errors, and the fuzz target of the segment reader.

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"testing"

	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/internal/wire"
)

// A sparse file is some bytes, and zeros behind them.
type sparse []byte

func (s sparse) ReadAt(p []byte, offset int64) (int, error) {
	clear(p)
	if offset < int64(len(s)) {
		copy(p, s[offset:])
	}
	return len(p), nil
}

// TestRead_Length_IsNoReasonToAllocate: a header that tells of much is checked before memory is taken.
func TestRead_Length_IsNoReasonToAllocate(t *testing.T) {
	const length = 64 << 20
	b := make([]byte, segment.BatchHeaderSize)
	segment.SealBatch(b, writer, 5, 1)
	for _, claimed := range []uint32{length, math.MaxInt32, math.MaxUint32} {
		binary.LittleEndian.PutUint32(b[4:], claimed)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := segment.NewReader(sparse(b), writer).ReadBatch(0, length+1000)
		runtime.ReadMemStats(&after)
		if got := after.TotalAlloc - before.TotalAlloc; got > 1<<20 || !errors.Is(err, segment.ErrDamaged) {
			t.Errorf("a length of %d: %d bytes allocated, %v", claimed, got, err)
		}
	}
}

// TestRead_Large_IsRead: batches around the sizes at which reading changes, with one Reader.
func TestRead_Large_IsRead(t *testing.T) {
	for _, size := range []int{64<<10 - 28, 64<<10 - 27, 64<<10 - 26, 64 << 10, 128<<10 - 1, 1 << 20, 70 << 10} {
		message := string(bytes.Repeat([]byte{1}, size))
		b, bounds := file(1, batch(writer, 1, message), batch(writer, 2, "x"))
		found, lost := readAll(t, bytes.NewReader(b), int64(len(b)), 1, 3)
		if len(found) != 2 || len(lost) != 0 || !bytes.Equal(found[0].Frames, wire.AppendFrame(nil, []byte(message))) {
			t.Errorf("a message of %d bytes: %d batches, lost %v", size, len(found), lost)
		}
		b[bounds[1]-1]++
		if found, lost := readAll(t, bytes.NewReader(b), int64(len(b)), 1, 3); len(found) != 1 || len(lost) != 1 {
			t.Errorf("a damaged message of %d bytes: %d batches, lost %v", size, len(found), lost)
		}
	}
}

// TestFind_Bait_IsBounded: a message of nothing but beginnings of batches, each of which would be summed.
func TestFind_Bait_IsBounded(t *testing.T) {
	bait := make([]byte, segment.BatchHeaderSize)
	segment.SealBatch(bait, segment.WriterID{}, 6, 1)
	binary.LittleEndian.PutUint32(bait[4:], 1<<20)
	b, bounds := file(5, batch(writer, 5, string(bytes.Repeat(bait, 1<<21/len(bait)))))
	b[bounds[0]]++
	reads := &countingFile{ReaderAt: bytes.NewReader(b)}
	got, err := segment.NewReader(reads, writer).Find(bounds[0], int64(len(b)), 5, 100)
	if err != io.EOF || reads.bytes > 40*len(b) {
		t.Errorf("found %+v, %v; read %d bytes of a file of %d", got, err, reads.bytes, len(b))
	}
}

// A countingFile counts what is read.
type countingFile struct {
	io.ReaderAt
	bytes int
}

func (f *countingFile) ReadAt(p []byte, offset int64) (int, error) {
	f.bytes += len(p)
	return f.ReaderAt.ReadAt(p, offset)
}

var errSector = errors.New("input/output error")

// A badFile cannot read one sector.
type badFile struct {
	b   []byte
	bad int64
}

func (f badFile) ReadAt(p []byte, offset int64) (int, error) {
	if offset < f.bad+512 && offset+int64(len(p)) > f.bad {
		return 0, errSector
	}
	return bytes.NewReader(f.b).ReadAt(p, offset)
}

// TestRead_BadSector_LosesItsBatches: the batches that lie in it, and nothing else.
func TestRead_BadSector_LosesItsBatches(t *testing.T) {
	var batches [][]byte
	for n := range uint64(40) {
		batches = append(batches, batch(writer, 1+n, string(bytes.Repeat([]byte{'x'}, 100))))
	}
	b, bounds := file(1, batches...)
	for sector := int64(0); sector < int64(len(b)); sector += 512 {
		_, lost := readAll(t, badFile{b, sector}, int64(len(b)), 1, 41)
		want := 0
		for i := range batches {
			if bounds[i] < sector+512 && bounds[i+1] > sector {
				want++
			}
		}
		if len(lost) != want {
			t.Errorf("the sector at %d: lost %v, want %d", sector, lost, want)
		}
	}
	_, err := segment.NewReader(badFile{b, 0}, writer).ReadBatch(bounds[0], int64(len(b)))
	if !errors.Is(err, errSector) || errors.Is(err, segment.ErrDamaged) {
		t.Errorf("%v, want the error of the file", err)
	}
}

// FuzzReader: no bytes make it panic, loop, or return a message that no batch of the writer has.
func FuzzReader(f *testing.F) {
	b, bounds, _ := sample()
	f.Add(b)
	f.Add(b[:len(b)-3])                                      // A torn tail.
	f.Add(b[:segment.HeaderSize])                            // No batch.
	f.Add(append(b[:bounds[1]:bounds[1]], b[bounds[2]:]...)) // Numbers that jump.
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, err := segment.ParseHeader(b); err != nil && !errors.Is(err, segment.ErrDamaged) {
			t.Errorf("the header: %v", err)
		}
		size := int64(len(b))
		reader := segment.NewReader(bytes.NewReader(b), writer)
		next, offset := uint64(1), int64(segment.HeaderSize)
		for {
			got, err := reader.ReadBatch(offset, size)
			if err == io.EOF {
				return
			}
			if err != nil {
				if got, err = reader.Find(offset, size, next, math.MaxUint64); err != nil {
					return
				}
			}
			formed := append(make([]byte, segment.BatchHeaderSize), got.Frames...)
			segment.SealBatch(formed, writer, got.First, got.Count)
			if got.Start < offset || got.End > size || !bytes.Equal(formed, b[got.Start:got.End]) {
				t.Fatalf("behind %d: %+v of a file of %d", offset, got, size)
			}
			next, offset = got.Next(), got.End
		}
	})
}
