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

	"github.com/udsipc/udsipc/internal/wire"
)

// pieceSize is how much of a large batch is read at once to check it, before memory is taken for it.
const pieceSize = 64 << 10

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
// largest batch that it met.
type Reader struct {
	file   io.ReaderAt
	writer WriterID
	buf    []byte // What ReadBatch returns.
	search []byte // What Find looks through.
}

// NewReader returns a Reader of the batches of a writer. The caller keeps the file, and closes it.
func NewReader(file io.ReaderAt, writer WriterID) *Reader {
	return &Reader{file: file, writer: writer}
}

// Reset makes the Reader read another file, with the same memory.
func (r *Reader) Reset(file io.ReaderAt, writer WriterID) { r.file, r.writer = file, writer }

// ReadBatch reads the batch at an offset of a file of a size. Its error is io.EOF at the end of the
// file, ErrTorn if the file ends within the batch, ErrDamaged for a batch that does not pass, else that
// of the file.
func (r *Reader) ReadBatch(offset, size int64) (Batch, error) {
	h, err := r.readHeader(offset, size)
	if err != nil {
		return Batch{}, err
	}
	total := BatchHeaderSize + int(h.length)
	if total > pieceSize && total > cap(r.buf) {
		if err := r.checkSum(h, offset); err != nil {
			return Batch{}, err
		}
	}
	if cap(r.buf) < total {
		r.buf = make([]byte, max(total, pieceSize))
	}
	b := r.buf[:total]
	if err := readFull(r.file, b, offset); err != nil {
		return Batch{}, err
	}
	// The header is taken from what was summed, not from what was read before.
	h = parseBatchHeader(b)
	frames := b[BatchHeaderSize:]
	if batchSum(r.writer, b[4:]) != h.sum || !plausible(h, int64(len(frames))) || int(h.length) != len(frames) {
		return Batch{}, fmt.Errorf("%w: wrong checksum of the batch at offset %d", ErrDamaged, offset)
	}
	if !whole(frames, h.count) {
		return Batch{}, fmt.Errorf("%w: the batch at offset %d has not the %d messages that it tells of",
			ErrDamaged, offset, h.count)
	}
	return Batch{h.first, int(h.count), frames, offset, offset + int64(total)}, nil
}

// readHeader reads the header of the batch at an offset, and bounds its length by the size.
func (r *Reader) readHeader(offset, size int64) (h batchHeader, err error) {
	switch left := size - offset; {
	case left <= 0:
		return h, io.EOF
	case left < BatchHeaderSize:
		return h, fmt.Errorf("%w: %d bytes at offset %d, a header has %d", ErrTorn, left, offset, BatchHeaderSize)
	}
	var b [BatchHeaderSize]byte
	if err := readFull(r.file, b[:], offset); err != nil {
		return h, err
	}
	h = parseBatchHeader(b[:])
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
	sum := crc32.Checksum(r.writer[:], castagnoli)
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

// ErrTorn is the ErrDamaged of a batch that ends behind the end of the file: the end of a process, or
// of the machine, has cut it off. Damage of its length looks the same.
var ErrTorn = fmt.Errorf("%w: cut off", ErrDamaged)

// readLoose reads what can be read of b. A sector that cannot be read is zeros, which no batch begins
// with.
func (r *Reader) readLoose(b []byte, offset int64) {
	const sector = 512
	if readFull(r.file, b, offset) == nil {
		return
	}
	for len(b) > 0 {
		part := b[:min(len(b), sector-int(offset%sector))]
		if readFull(r.file, part, offset) != nil {
			clear(part)
		}
		b, offset = b[len(part):], offset+int64(len(part))
	}
}

// readFull reads all of b. A file that ends earlier than its size told was cut meanwhile.
func readFull(file io.ReaderAt, b []byte, offset int64) error {
	n, err := file.ReadAt(b, offset)
	if n == len(b) {
		return nil
	}
	if err == io.EOF {
		return fmt.Errorf("%w: the file ends at offset %d", ErrTorn, offset+int64(n))
	}
	return fmt.Errorf("reading the spool at offset %d: %w", offset, err)
}
