// SPDX-License-Identifier: Apache-2.0

package segment_test

// Batches that follow each other, read as one.

import (
	"bytes"
	"io"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/udsipc/udsipc/internal/segment"
)

// readRuns is readAll with runs: the frames of all, and the numbers below end that are missing.
func readRuns(file io.ReaderAt, size int64, next, end uint64) (frames []byte, lost []uint64) {
	reader := segment.NewReader(file, writer)
	for offset := int64(segment.HeaderSize); ; {
		run, err := reader.ReadRun(offset, size, end)
		if err != nil && err != io.EOF {
			run, err = reader.Find(offset, size, next, end)
		}
		if err != nil {
			run.First = end
		}
		for ; next < run.First; next++ {
			lost = append(lost, next)
		}
		if err != nil {
			return frames, lost
		}
		frames = append(frames, run.Frames...)
		next, offset = run.Next(), run.End
	}
}

// TestReadRun_Damaged_IsAsReadBatch: any sizes around those of the window, any damage, and a file that is cut.
func TestReadRun_Damaged_IsAsReadBatch(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 13))
		var batches [][]byte
		next := uint64(1)
		for range 1 + random.IntN(40) {
			size := []int{0, 1, 100, 1000, 20_000, 128<<10 - 28, 128<<10 - 27, 128<<10 - 26, 200_000}[random.IntN(5+int(seed%5))]
			if random.IntN(20) == 0 {
				next++ // Numbers that jump.
			}
			batches = append(batches, batch(writer, next, string(bytes.Repeat([]byte{byte(next)}, size)), "x"))
			next += 2
		}
		b, bounds := file(1, batches...)
		for range random.IntN(3) {
			at := bounds[random.IntN(len(bounds)-1)] + int64(random.IntN(30))
			b[min(at, int64(len(b)-1))] ^= 1
		}
		b = b[:len(b)-random.IntN(2)*random.IntN(40)]
		found, lost := readAll(t, bytes.NewReader(b), int64(len(b)), 1, next)
		var want []byte
		for _, one := range found {
			want = append(want, one.Frames...)
		}
		frames, alsoLost := readRuns(bytes.NewReader(b), int64(len(b)), 1, next)
		if !bytes.Equal(frames, want) || !slices.Equal(lost, alsoLost) {
			t.Fatalf("seed %d: %d bytes of frames and %v lost, want %d and %v", seed, len(frames), alsoLost, len(want), lost)
		}
	}
}

// TestReadRun_Small_IsOneRead: small batches are one run and one read of the file; it ends with the size and below end,
// even if more was read before.
func TestReadRun_Small_IsOneRead(t *testing.T) {
	var batches [][]byte
	for n := range uint64(100) {
		batches = append(batches, batch(writer, 1+n, "message"))
	}
	b, bounds := file(1, batches...)
	reads := &countingFile{ReaderAt: bytes.NewReader(b)}
	reader := segment.NewReader(reads, writer)
	run, err := reader.ReadRun(bounds[0], int64(len(b)), 1000)
	if err != nil || run.Count != 100 || run.End != int64(len(b)) || reads.bytes != len(b)-segment.HeaderSize {
		t.Errorf("%d messages up to %d of %d, read %d bytes, %v", run.Count, run.End, len(b), reads.bytes, err)
	}
	for name, test := range map[string]struct {
		size int64
		end  uint64
	}{"end": {int64(len(b)), 11}, "size": {bounds[10], 1000}, "within a batch": {bounds[11] - 1, 1000}} {
		reader.Reset(reads, writer)
		if _, err := reader.ReadBatch(bounds[0], int64(len(b))); err != nil {
			t.Fatal(err)
		}
		run, err := reader.ReadRun(bounds[0], test.size, test.end)
		if err != nil || run.Count != 10 || run.End != bounds[10] || cap(run.Frames) != len(run.Frames) {
			t.Errorf("%s: %d messages up to %d, room for %d bytes more, %v; want 10 up to %d",
				name, run.Count, run.End, cap(run.Frames)-len(run.Frames), err, bounds[10])
		}
	}
}
