// SPDX-License-Identifier: Apache-2.0

package segment

// This file finds batches in a segment.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"

	"github.com/udsipc/udsipc/internal/wire"
)

// pieceSize is how much is read at once: of a large batch to check it before memory is taken for it, and by Find.
const pieceSize = 64 << 10

// windowSize is how much ReadBatch reads at once. A larger batch gets memory of its own.
const windowSize = 128 << 10

// searchFactor bounds Find: it sums at most so many times the size of the segment. Only a file that was
// made for it has that many beginnings of batches.
const searchFactor = 16

// A Batch is a batch that passed all checks.
type Batch struct {
	First  uint64 // Number of its first message.
	Count  int    // Number of its messages, at least 1.
	Frames []byte // Its messages as frames. They belong to the Reader until its next call.
	Start  int64  // Where its header begins in the file.
	End    int64  // Where the next batch begins.
}

// Next returns the number of the message behind the batch.
func (b Batch) Next() uint64 { return b.First + uint64(b.Count) }

// A Reader reads the batches of one segment. One goroutine may use it. Its memory is that of the
// largest batch that it met. Below the size that its methods are given, the file does not change.
type Reader struct {
	file   io.ReaderAt
	seed   uint32 // Checksum of the writer.
	memory []byte // Of the window.
	window []byte // The bytes of the file from at on that were read ahead: a part of memory.
	at     int64
	large  []byte // A batch that is larger than the window.
	search []byte // A piece of such a batch.
}

// NewReader returns a Reader of the batches of a writer. The caller keeps the file, and closes it.
func NewReader(file io.ReaderAt, writer WriterID) *Reader {
	r := new(Reader)
	r.Reset(file, writer)
	return r
}

// Reset makes the Reader read another file, with the same memory.
func (r *Reader) Reset(file io.ReaderAt, writer WriterID) {
	r.file, r.seed, r.window = file, crc32.Checksum(writer[:], castagnoli), nil
}

// Trim gives back the memory of large batches.
func (r *Reader) Trim() { r.large = nil }

// ReadBatch reads the batch at an offset of a file of a size. Its error is io.EOF at the end of the
// file, ErrTorn if the file ends within the batch, ErrDamaged for a batch that does not pass, else that
// of the file.
func (r *Reader) ReadBatch(offset, size int64) (Batch, error) {
	h, err := r.readHeader(offset, size)
	if err != nil {
		return Batch{}, err
	}
	total := BatchHeaderSize + int(h.length)
	var b []byte
	if total <= windowSize {
		b, err = r.peek(offset, total, size)
	} else {
		b, err = r.readLarge(h, offset)
	}
	if err != nil {
		return Batch{}, err
	}
	// The header is taken from what was summed, not from what was read before.
	h = parseBatchHeader(b)
	frames := b[BatchHeaderSize:]
	if batchSum(r.seed, b[4:]) != h.sum || !plausible(h, int64(len(frames))) || int(h.length) != len(frames) {
		return Batch{}, fmt.Errorf("%w: wrong checksum of the batch at offset %d", ErrDamaged, offset)
	}
	if !whole(frames, h.count) {
		return Batch{}, fmt.Errorf("%w: the batch at offset %d has not the %d messages that it tells of",
			ErrDamaged, offset, h.count)
	}
	return Batch{h.first, int(h.count), frames, offset, offset + int64(total)}, nil
}

// ReadRun is ReadBatch, with the batches behind it as one: as many as were read ahead, pass, and go on with its
// numbers, up to those below end.
func (r *Reader) ReadRun(offset, size int64, end uint64) (Batch, error) {
	run, err := r.ReadBatch(offset, size)
	if err != nil || run.End-run.Start > windowSize {
		return run, err
	}
	r.window, r.at = r.window[run.End-r.at:], run.End
	for len(r.window) >= BatchHeaderSize {
		h := parseBatchHeader(r.window)
		room := min(int64(len(r.window)), size-run.End) - BatchHeaderSize // The size may be less than it was.
		if h.first != run.Next() || !plausible(h, room) || h.first+uint64(h.count) > end {
			break
		}
		b := r.window[:BatchHeaderSize+int(h.length)]
		frames := b[BatchHeaderSize:]
		if batchSum(r.seed, b[4:]) != h.sum || !whole(frames, h.count) {
			break // The next call tells what is wrong with it.
		}
		run.Frames = append(run.Frames, frames...) // Over what was read of the window.
		run.Count += int(h.count)
		run.End += int64(len(b))
		r.window, r.at = r.window[len(b):], run.End
	}
	run.Frames = slices.Clip(run.Frames)
	return run, nil
}

// readLarge reads a batch that is larger than the window, and checks it before it takes memory for it.
func (r *Reader) readLarge(h batchHeader, offset int64) ([]byte, error) {
	total := BatchHeaderSize + int(h.length)
	if cap(r.large) < total {
		if err := r.checkSum(h, offset); err != nil {
			return nil, err
		}
		r.large = make([]byte, total)
	}
	b := r.large[:total]
	return b, readFull(r.file, b, offset)
}

// peek returns n bytes at an offset. If they were not read ahead, it reads them with what follows, as far as there
// is room in the window and the size allows.
func (r *Reader) peek(offset int64, n int, size int64) ([]byte, error) {
	skip := offset - r.at
	if skip < 0 || skip > int64(len(r.window)) {
		r.window, skip = nil, 0
	}
	r.window, r.at = r.window[skip:], offset
	if n <= len(r.window) {
		return r.window[:n], nil
	}
	memory, want := r.memory, int(min(windowSize, size-offset))
	if len(memory) < want {
		memory = make([]byte, min(windowSize, max(want, 2*len(memory)))) // Small files need little.
	}
	kept := copy(memory, r.window)
	r.memory = memory
	read, _ := r.file.ReadAt(memory[kept:want], offset+int64(kept))
	r.window = r.memory[:kept+read]
	if n <= len(r.window) {
		return r.window[:n], nil
	}
	// What cannot be read may lie behind these bytes.
	r.window = nil
	b := r.memory[:n]
	if err := readFull(r.file, b, offset); err != nil {
		return nil, err
	}
	r.window = b
	return b, nil
}

// readHeader reads the header of the batch at an offset, and bounds its length by the size.
func (r *Reader) readHeader(offset, size int64) (h batchHeader, err error) {
	switch left := size - offset; {
	case left <= 0:
		return h, io.EOF
	case left < BatchHeaderSize:
		return h, fmt.Errorf("%w: %d bytes at offset %d, a header has %d", ErrTorn, left, offset, BatchHeaderSize)
	}
	b, err := r.peek(offset, BatchHeaderSize, size)
	if err != nil {
		return h, err
	}
	h = parseBatchHeader(b)
	room := size - offset - BatchHeaderSize
	switch {
	case plausible(h, room):
		return h, nil
	case plausible(h, MaxFrames):
		return h, fmt.Errorf("%w: the batch at offset %d has %d bytes, the file %d more", ErrTorn, offset, h.length, room)
	}
	return h, fmt.Errorf("%w: no batch at offset %d", ErrDamaged, offset)
}

// plausible reports whether a header can be that of a batch of at most room bytes: each message has at least a
// byte, and the numbers end.
func plausible(h batchHeader, room int64) bool {
	return h.reserved == 0 && h.count > 0 && h.count <= h.length && int64(h.length) <= min(room, MaxFrames) &&
		h.first > 0 && h.first <= math.MaxUint64-uint64(h.count)
}

// checkSum sums a large batch in pieces.
func (r *Reader) checkSum(h batchHeader, offset int64) error {
	if cap(r.search) < pieceSize {
		r.search = make([]byte, pieceSize)
	}
	sum := r.seed
	for at, end := offset+4, offset+BatchHeaderSize+int64(h.length); at < end; {
		b := r.search[:min(pieceSize, end-at)]
		if err := readFull(r.file, b, at); err != nil {
			return err
		}
		sum = crc32.Update(sum, castagnoli, b)
		at += int64(len(b))
	}
	if sum != h.sum {
		return fmt.Errorf("%w: wrong checksum of the batch at offset %d", ErrDamaged, offset)
	}
	return nil
}

// Find returns the first batch behind a damaged one that passes. The damaged one begins at an offset,
// and its first message should have the number next; every message that is found has a number from
// next to below end. Without another batch the error is io.EOF.
func (r *Reader) Find(offset, size int64, next, end uint64) (Batch, error) {
	fits := func(b Batch, err error) bool { return err == nil && b.First >= next && b.Next() <= end }
	// If only the frames are damaged, the header tells where the next batch begins. What it tells is taken
	// only if the numbers go on there.
	if h, err := r.readHeader(offset, size); err == nil && h.first == next {
		b, err := r.ReadBatch(offset+BatchHeaderSize+int64(h.length), size)
		if fits(b, err) && b.First == h.first+uint64(h.count) {
			return b, nil
		}
	}
	budget := searchFactor * size
	window := make([]byte, pieceSize)
	for at := offset + 1; at+BatchHeaderSize <= size && budget > 0; at += int64(len(window) - BatchHeaderSize + 1) {
		window = window[:min(pieceSize, size-at)]
		r.readLoose(window, at)
		for i := 0; i+BatchHeaderSize <= len(window) && budget > 0; i++ {
			if binary.LittleEndian.Uint32(window[i+20:]) != 0 {
				continue // The reserved field: nearly every byte ends here.
			}
			h := parseBatchHeader(window[i:])
			if !plausible(h, size-at-int64(i)-BatchHeaderSize) || h.first < next || h.first+uint64(h.count) > end {
				continue
			}
			budget -= int64(h.length)
			if b, err := r.ReadBatch(at+int64(i), size); fits(b, err) {
				return b, nil
			}
		}
	}
	return Batch{}, io.EOF
}

// Torn reports whether what lies at an offset is the beginning of a batch with a first number, and ends
// with the file before its last message does.
func (r *Reader) Torn(offset, size int64, first uint64) bool {
	_, err := r.readHeader(offset, size)
	if !errors.Is(err, ErrTorn) || size-offset < BatchHeaderSize {
		return errors.Is(err, ErrTorn)
	}
	var b [BatchHeaderSize]byte
	if readFull(r.file, b[:], offset) != nil {
		return false
	}
	h := parseBatchHeader(b[:])
	frames := make([]byte, size-offset-BatchHeaderSize)
	if h.first != first || readFull(r.file, frames, offset+BatchHeaderSize) != nil {
		return false
	}
	count, _ := wire.WholeFrames(frames)
	return uint64(count) < uint64(h.count)
}
