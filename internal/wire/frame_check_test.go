// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// FuzzCheckFrames: what is accepted is what the frames of its messages are, and nothing else is.
func FuzzCheckFrames(f *testing.F) {
	f.Add([]byte{}, 0)
	f.Add([]byte("\x01a\x00\x02bc"), 3)
	f.Add([]byte("\x01a\x02b"), 2)           // Incomplete.
	f.Add([]byte("\x81\x00a"), 1)            // Longer than it need be.
	f.Add([]byte("\x80\x00"), 1)             // A heartbeat.
	f.Add(bytes.Repeat([]byte{0xff}, 11), 1) // Over 64 bits.
	f.Fuzz(func(t *testing.T, b []byte, count int) {
		var again []byte
		found, longest := 0, 0
		for at := 0; at < len(b); found++ {
			length, size, err := wire.ParsePrefix(b[at:])
			if err != nil || size == 0 || uint64(len(b)-at-size) < length {
				break
			}
			again = wire.AppendFrame(again, b[at+size:at+size+int(length)])
			longest = max(longest, int(length))
			at += size + int(length)
		}
		want := bytes.Equal(again, b) && found == count
		largest, err := wire.CheckFrames(b, count)
		if (err == nil) != want || err == nil && largest != longest ||
			err != nil && !errors.Is(err, errdefs.ErrInvalidLengthPrefix) {
			t.Errorf("% x with %d frames: %d, %v; want %v", b, count, largest, err, want)
		}
	})
}
