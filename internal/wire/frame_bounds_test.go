// SPDX-License-Identifier: Apache-2.0

package wire_test

// Frames around each boundary of their prefix.

import (
	"bytes"
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestFrames_Vectors_EncodeInShortestForm encodes the messages of the vectors that are in order, in the
// shortest form.
func TestFrames_Vectors_EncodeInShortestForm(t *testing.T) {
	for _, v := range ipctest.FrameVectors(t) {
		if v.End != "whole" || strings.HasPrefix(v.Name, "prefix") {
			continue
		}
		var got []byte
		for _, message := range v.Messages {
			got = wire.AppendFrame(got, ipctest.Expand(t, message))
		}
		if want := ipctest.Expand(t, v.Bytes); !bytes.Equal(got, want) {
			t.Errorf("%s: wrote %.40x, want %.40x", v.Name, got, want)
		}
	}
}

// aroundPowers are the numbers around every power of 128 up to the limit.
func aroundPowers(limit uint64) []uint64 {
	numbers := []uint64{0, 1, 2}
	for shift := 7; shift < 64; shift += 7 {
		for n := uint64(1)<<shift - 2; n <= 1<<shift+2; n++ {
			numbers = append(numbers, n)
		}
	}
	numbers = append(numbers, math.MaxInt64, math.MaxInt64+1, math.MaxUint64-1, math.MaxUint64)
	return slices.DeleteFunc(numbers, func(n uint64) bool { return n > limit })
}

func TestFrames_LengthPrefix_ParsesAroundBoundaries(t *testing.T) {
	for _, n := range aroundPowers(math.MaxUint64) {
		prefix := binary.AppendUvarint(nil, n)
		if got := wire.FrameSize(int(n)) - int(n); n <= math.MaxInt && got != len(prefix) {
			t.Errorf("a prefix of %d has %d bytes, want %d", n, got, len(prefix))
		}
		for tail := range 3 {
			b := append(slices.Clip(prefix), bytes.Repeat([]byte{0xff}, tail)...)
			if got, size, err := wire.ParsePrefix(b); got != n || size != len(prefix) || err != nil {
				t.Errorf("%x is %d of %d bytes, %v, want %d of %d", b, got, size, err, n, len(prefix))
			}
		}
		for cut := range prefix {
			if _, size, err := wire.ParsePrefix(prefix[:cut]); size != 0 || err != nil {
				t.Errorf("%d of the %d bytes of %d: size %d, %v, want 0 and none", cut, len(prefix), n, size, err)
			}
		}
	}
}

func TestFrames_SizesAroundBoundaries_RoundTrip(t *testing.T) {
	zeros := make([]byte, 1<<21+2)
	for _, n := range aroundPowers(uint64(len(zeros))) {
		frame := wire.AppendFrame(nil, zeros[:n])
		if got := wire.FrameSize(int(n)); got != len(frame) {
			t.Fatalf("FrameSize(%d) = %d, want %d", n, got, len(frame))
		}
		b := append(frame[:len(frame):len(frame)], frame...)
		header := len(frame) - int(n)
		for _, test := range []struct{ bytes, count, end int }{
			{0, 0, 0},
			{header - 1, 0, 0},
			{len(frame) - 1, 0, 0},
			{len(frame), 1, len(frame)},
			{len(frame) + header - 1, 1, len(frame)},
			{2*len(frame) - 1, 1, len(frame)},
			{2 * len(frame), 2, 2 * len(frame)},
		} {
			if count, end := wire.WholeFrames(b[:test.bytes]); count != test.count || end != test.end {
				t.Errorf("%d bytes of two frames of %d: %d whole to %d, want %d to %d",
					test.bytes, len(frame), count, end, test.count, test.end)
			}
		}
	}
}
