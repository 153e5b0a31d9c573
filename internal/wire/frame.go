// SPDX-License-Identifier: Apache-2.0

// Package wire forms and parses every byte that leaves the process: frames, the session handshake,
// acknowledgements, the goodbye with its report, and the hand-over state. It does no I/O and keeps
// no state.
package wire

// This file is the frame: how one is formed, and how frames are found in bytes. It knows no sockets, no goroutines and
// no pools.

import (
	"encoding/binary"
	"fmt"
	"math/bits"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// MaxPrefixSize is the longest length prefix: 64 bits in groups of seven.
const MaxPrefixSize = binary.MaxVarintLen64

// prefixSize returns the length in bytes of the prefix of a message of n bytes.
func prefixSize(n int) int {
	return (bits.Len64(uint64(n)|1) + 6) / 7
}

// FrameSize returns the length in bytes of the frame of a message of n bytes.
func FrameSize(n int) int {
	return prefixSize(n) + n
}

// AppendPrefix appends the length prefix of a message of n bytes to dst.
func AppendPrefix(dst []byte, n int) []byte {
	return binary.AppendUvarint(dst, uint64(n))
}

// AppendFrame appends the frame of data to dst. It keeps neither.
func AppendFrame(dst, data []byte) []byte {
	return append(AppendPrefix(dst, len(data)), data...)
}

// ParsePrefix reads the length prefix at the start of b: the message's length, and the prefix's own.
// A prefix that is not there whole yet has the size 0; one that overflows 64 bits is an error.
func ParsePrefix(b []byte) (length uint64, size int, err error) {
	if len(b) > 0 && b[0] < 0x80 {
		return uint64(b[0]), 1, nil
	}
	length, size = binary.Uvarint(b)
	if size < 0 {
		return 0, 0, fmt.Errorf("%w: % x… is longer than 64 bits", errdefs.ErrInvalidLengthPrefix, b[:MaxPrefixSize])
	}
	return length, size, nil
}

// WholeFrames walks the frames in b, which begins at a frame boundary and was made by AppendFrame.
// It returns how many lie in b to their last byte, and where the last of those ends.
func WholeFrames(b []byte) (count, end int) {
	for end < len(b) {
		length, size, err := ParsePrefix(b[end:])
		if err != nil || size == 0 || uint64(len(b)-end-size) < length {
			break
		}
		end += size + int(length)
		count++
	}
	return count, end
}

// FramesSize returns the length in bytes of the first count frames in b, which were made by AppendFrame.
func FramesSize(b []byte, count int) (size int) {
	for range count {
		length, header, _ := ParsePrefix(b[size:])
		size += header + int(length)
	}
	return size
}

// CheckFrames checks that b has exactly count frames in the shortest form. It returns the size of the
// largest message. The error matches ErrInvalidLengthPrefix.
func CheckFrames(b []byte, count int) (largest int, err error) {
	found := 0
	for at := 0; at < len(b); found++ {
		length, size, err := ParsePrefix(b[at:])
		switch {
		case err != nil:
			return 0, fmt.Errorf("%w (frame %d, at byte %d)", err, found+1, at)
		case size == 0 || uint64(len(b)-at-size) < length:
			return 0, fmt.Errorf("%w: frame %d, at byte %d, is incomplete: there are %d bytes from there",
				errdefs.ErrInvalidLengthPrefix, found+1, at, len(b)-at)
		case size > 1 && b[at+size-1] == 0:
			return 0, fmt.Errorf("%w: % x of frame %d, at byte %d, is longer than it need be",
				errdefs.ErrInvalidLengthPrefix, b[at:at+size], found+1, at)
		}
		largest = max(largest, int(length))
		at += size + int(length)
	}
	if found != count {
		return 0, fmt.Errorf("%w: there are %d frames in %d bytes, the count is %d",
			errdefs.ErrInvalidLengthPrefix, found, len(b), count)
	}
	return largest, nil
}
