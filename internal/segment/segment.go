// SPDX-License-Identifier: Apache-2.0

// Package segment forms and parses the files of a spool. It keeps no state, and it writes no file.
//
// A segment is a header and batches. Its name has the count of starts and its first message number, in
// hexadecimal, so that the order of the names is the order of the messages:
//
//	segment = "udspool1" writer[16] first:u64 0:u64 0:u32 crc32c:u32 *batch
//	batch   = crc32c:u32 length:u32 first:u64 count:u32 0:u32 frames[length]
//
// Numbers are little-endian; frames are those of the wire. The checksum of a batch covers the writer,
// the rest of its header, and its frames, so a batch of another writer, zeros and an old file do not
// pass. A batch is written, checked, synced and lost as one.
//
// The two other files of a spool, state and handled, have two slots each, which are written in turn.
package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"strconv"
	"strings"

	"github.com/udsipc/udsipc/internal/wire"
)

const (
	// HeaderSize is the length in bytes of the header of a segment.
	HeaderSize = 48
	// BatchHeaderSize is the length in bytes of the header of a batch.
	BatchHeaderSize = 24
	// MaxFrames is the largest length in bytes of the frames of a batch.
	MaxFrames = math.MaxInt32 - BatchHeaderSize

	magic = "udspool1"
)

// ErrDamaged: the bytes are no header, or no batch, of this writer.
var ErrDamaged = errors.New("udsipc: damaged spool")

// A WriterID is the identity under which messages have their numbers.
type WriterID = [16]byte

// A Header is what a segment begins with.
type Header struct {
	Writer WriterID
	First  uint64 // Number of its first message.
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendHeader appends a header to dst.
func AppendHeader(dst []byte, h Header) []byte {
	start := len(dst)
	dst = append(append(dst, magic...), h.Writer[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, h.First)
	dst = append(dst, make([]byte, 12)...)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// ParseHeader parses the header at the beginning of b, or returns ErrDamaged.
func ParseHeader(b []byte) (h Header, err error) {
	const summed = HeaderSize - 4
	switch {
	case len(b) < HeaderSize:
		return h, fmt.Errorf("%w: a header of %d bytes, want %d", ErrDamaged, len(b), HeaderSize)
	case string(b[:8]) != magic:
		return h, fmt.Errorf("%w: it begins with %q, want %q", ErrDamaged, b[:8], magic)
	case crc32.Checksum(b[:summed], castagnoli) != binary.LittleEndian.Uint32(b[summed:]):
		return h, fmt.Errorf("%w: wrong checksum of the header", ErrDamaged)
	case binary.LittleEndian.Uint64(b[32:]) != 0 || binary.LittleEndian.Uint32(b[40:]) != 0:
		return h, fmt.Errorf("%w: a header of a later version", ErrDamaged)
	}
	copy(h.Writer[:], b[8:])
	h.First = binary.LittleEndian.Uint64(b[24:])
	return h, nil
}

// A batchHeader is what a batch begins with.
type batchHeader struct {
	sum, length uint32
	first       uint64
	count       uint32
	reserved    uint32
}

func parseBatchHeader(b []byte) batchHeader {
	return batchHeader{
		sum:      binary.LittleEndian.Uint32(b),
		length:   binary.LittleEndian.Uint32(b[4:]),
		first:    binary.LittleEndian.Uint64(b[8:]),
		count:    binary.LittleEndian.Uint32(b[16:]),
		reserved: binary.LittleEndian.Uint32(b[20:]),
	}
}

// SealBatch fills in the header of a batch. The first BatchHeaderSize bytes of b are room for it, the
// rest are count frames, at most MaxFrames bytes.
func SealBatch(b []byte, writer WriterID, first uint64, count int) {
	copy(b, writer[:]) // A slice of the parameter would be an allocation.
	seed := crc32.Checksum(b[:len(writer)], castagnoli)
	binary.LittleEndian.PutUint32(b[4:], uint32(len(b)-BatchHeaderSize))
	binary.LittleEndian.PutUint64(b[8:], first)
	binary.LittleEndian.PutUint32(b[16:], uint32(count))
	binary.LittleEndian.PutUint32(b[20:], 0)
	binary.LittleEndian.PutUint32(b, batchSum(seed, b[4:]))
}

// batchSum returns the checksum of a batch without its first field. The seed is the checksum of its writer.
func batchSum(seed uint32, b []byte) uint32 {
	return crc32.Update(seed, castagnoli, b)
}

// whole reports whether frames are exactly count frames. The checksum tells that they are as written;
// this, that they were written as they should be.
func whole(frames []byte, count uint32) bool {
	n, end := wire.WholeFrames(frames)
	return end == len(frames) && uint64(n) == uint64(count)
}

const nameSuffix = ".seg"

// Name returns the name of the segment with a first message number that was made in a start.
func Name(start uint32, first uint64) string {
	return fmt.Sprintf("%08x-%016x%s", start, first, nameSuffix)
}

// ParseName is the reverse of Name. Other names are not ok.
func ParseName(name string) (start uint32, first uint64, ok bool) {
	starts, firsts, cut := strings.Cut(strings.TrimSuffix(name, nameSuffix), "-")
	s, err1 := strconv.ParseUint(starts, 16, 32)
	f, err2 := strconv.ParseUint(firsts, 16, 64)
	ok = cut && err1 == nil && err2 == nil && name == Name(uint32(s), f)
	if !ok {
		return 0, 0, false
	}
	return uint32(s), f, true
}
