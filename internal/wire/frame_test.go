// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"fmt"
	"math"
	"testing"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestFrame_PrefixSize_MatchesEncoding around each length of the prefix.
func TestFrame_PrefixSize_MatchesEncoding(t *testing.T) {
	for size, first := 1, uint64(0); size <= 9; size++ {
		last := uint64(1)<<(7*size) - 1
		for _, n := range []uint64{first, last} {
			if n > math.MaxInt {
				continue
			}
			if got := wire.PrefixSize(int(n)); got != size {
				t.Errorf("the prefix of %d has %d bytes, want %d", n, got, size)
			}
			if n < math.MaxInt-20 && wire.FrameSize(int(n)) != int(n)+size {
				t.Errorf("the frame of %d has %d bytes, want %d", n, wire.FrameSize(int(n)), int(n)+size)
			}
		}
		first = last + 1
	}
}

// TestFrame_ParsePrefix_ReadsLength: lengths, prefixes that are not whole, and those that are too long.
func TestFrame_ParsePrefix_ReadsLength(t *testing.T) {
	for _, test := range []struct {
		b      []byte
		length uint64
		size   int
	}{
		{nil, 0, 0}, {[]byte{0}, 0, 1}, {[]byte{1, 2}, 1, 1}, {[]byte{0x7f}, 127, 1},
		{[]byte{0x80}, 0, 0}, {[]byte{0x80, 1}, 128, 2},
		{[]byte{0xff, 0x7f, 9}, 1<<14 - 1, 2}, {[]byte{0x80, 0x80}, 0, 0}, {[]byte{0x80, 0x80, 0x80, 0}, 0, 4},
		{append(bytes.Repeat([]byte{0xff}, 9), 1), math.MaxUint64, 10},
	} {
		if length, size, err := wire.ParsePrefix(test.b); length != test.length || size != test.size || err != nil {
			t.Errorf("% x: %d of %d bytes, %v; want %d of %d", test.b, length, size, err, test.length, test.size)
		}
	}
	for _, last := range []byte{2, 0x80} {
		b := append(bytes.Repeat([]byte{0xff}, 9), last, 1)
		length, size, err := wire.ParsePrefix(b)
		if length != 0 || size != 0 {
			t.Errorf("% x: %d of %d bytes", b, length, size)
		}
		wantWireError(t, "prefix", err, errdefs.ErrInvalidLengthPrefix,
			fmt.Sprintf("invalid length prefix: % x… is longer than 64 bits", b[:10]))
	}
}

// TestFrame_WholeFrames_CountsComplete up to each byte of three frames, and where each ends.
func TestFrame_WholeFrames_CountsComplete(t *testing.T) {
	var b []byte
	ends := []int{0}
	for _, n := range []int{3, 0, 200} {
		b = wire.AppendFrame(b, make([]byte, n))
		ends = append(ends, len(b))
	}
	for n := range len(b) + 1 {
		want := 0
		for want < 3 && ends[want+1] <= n {
			want++
		}
		if count, end := wire.WholeFrames(b[:n]); count != want || end != ends[want] {
			t.Errorf("%d bytes: %d frames to %d, want %d to %d", n, count, end, want, ends[want])
		}
	}
	for count, end := range ends {
		if got := wire.FramesSize(b, count); got != end {
			t.Errorf("%d frames have %d bytes, want %d", count, got, end)
		}
	}
	for _, bad := range [][]byte{
		bytes.Repeat([]byte{0xff}, 20), {0x80},
		{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
	} {
		if count, end := wire.WholeFrames(append([]byte{1, 'a'}, bad...)); count != 1 || end != 2 {
			t.Errorf("% x: %d frames to %d", bad, count, end)
		}
	}
}
