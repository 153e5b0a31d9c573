// SPDX-License-Identifier: Apache-2.0

package journal_test

// How fast a log on a real disk is. The disk is the one of TMPDIR; what it does without a log is
// beside the figures that depend on it.

import (
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/wire"
)

const benchMinFree = 64 << 20

// benchFrames returns count messages of a size as frames.
func benchFrames(count, size int) (frames []byte) {
	for range count {
		frames = wire.AppendFrame(frames, make([]byte, size))
	}
	return frames
}

func reportMessages(b *testing.B, perTurn int) {
	b.ReportMetric(float64(b.N*perTurn)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkAppend writes messages of 128 bytes, which are handled from time to time.
func BenchmarkAppend(b *testing.B) {
	for _, count := range []int{1, 64} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			log, start, end := openReal(b, b.TempDir(), journal.Config{Sync: time.Second, MinFree: benchMinFree})
			defer end()
			frames := benchFrames(count, 128)
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				first, err := log.Append(frames, count)
				if err != nil {
					b.Fatal(err)
				}
				if n%1024 == 0 {
					log.Handled(start.Writer, first, 0)
				}
			}
			reportMessages(b, count)
		})
	}
}

// BenchmarkStream writes messages of 128 bytes while they are read and handled.
func BenchmarkStream(b *testing.B) {
	for _, count := range []int{1, 64} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			log, _, end := openReal(b, b.TempDir(), journal.Config{Sync: time.Second, MinFree: benchMinFree})
			defer end()
			frames := benchFrames(count, 128)
			b.ReportAllocs()
			b.ResetTimer()
			var reader sync.WaitGroup
			reader.Go(func() { handleAll(b, log, uint64(b.N*count)) })
			for range b.N {
				if _, err := log.Append(frames, count); err != nil {
					b.Fatal(err)
				}
			}
			reader.Wait()
			reportMessages(b, count)
		})
	}
}

// BenchmarkHandled handles one message after the other while many segments wait.
func BenchmarkHandled(b *testing.B) {
	const messages = 1 << 22 // Without a byte. So many are handled before they are written anew.
	for _, segments := range []int{1, 64, 4096} {
		b.Run(fmt.Sprint(segments), func(b *testing.B) {
			b.ReportAllocs()
			for left := b.N; left > 0; left -= messages {
				b.StopTimer()
				log, start, end := openReal(b, b.TempDir(), journal.Config{Sync: -1, SegmentSize: 1 << 10})
				size := messages
				for range segments {
					if _, err := log.Append(make([]byte, size), size); err != nil {
						b.Fatal(err)
					}
					size = 1000
				}
				b.StartTimer()
				for n := range min(left, messages) {
					if err := log.Handled(start.Writer, uint64(n+1), 0); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				end()
			}
		})
	}
}

// handleAll handles what comes up to a number.
func handleAll(tb testing.TB, log *journal.Log, last uint64) {
	for at := uint64(0); at < last; {
		batch, err := log.Next()
		if err == io.EOF {
			<-log.Arrived()
			continue
		}
		if err != nil {
			tb.Error(err)
			return
		}
		at = batch.First + uint64(batch.Count) - 1
		if err := log.Handled(batch.Writer, at, 0); err != nil {
			tb.Error(err)
		}
	}
}

// BenchmarkSyncEach writes with a sync before each return.
func BenchmarkSyncEach(b *testing.B) {
	for _, test := range []struct{ producers, count int }{{1, 1}, {1, 256}, {64, 1}} {
		b.Run(fmt.Sprintf("%dx%d", test.producers, test.count), func(b *testing.B) {
			log, start, end := openReal(b, b.TempDir(), journal.Config{Sync: 0, MinFree: benchMinFree})
			defer end()
			frames := benchFrames(test.count, 128)
			b.ReportAllocs()
			b.ResetTimer()
			var producers sync.WaitGroup
			for n := range test.producers {
				producers.Go(func() {
					for i := n; i < b.N; i += test.producers {
						first, err := log.Append(frames, test.count)
						if err != nil {
							b.Error(err)
						}
						if i%64 == 0 {
							log.Handled(start.Writer, first, 0)
						}
					}
				})
			}
			producers.Wait()
			reportMessages(b, test.count)
			c := log.Counts()
			b.ReportMetric(float64(b.N*test.count)/float64(c.SyncTimes.Count), "messages/sync")
		})
	}
}

// BenchmarkSyncShare writes batches of 256 with a sync each, in turn fifty to a log and to a bare file, so that both
// meet the same disk. The share is the rate of the log in that of the file.
func BenchmarkSyncShare(b *testing.B) {
	const count, turn = 256, 50
	log, start, end := openReal(b, b.TempDir(), journal.Config{Sync: 0, MinFree: benchMinFree})
	defer end()
	frames := benchFrames(count, 128)
	file := &ipctest.BareFile{Path: filepath.Join(b.TempDir(), "file")}
	var times [2][]time.Duration // Of each turn.
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		last := uint64(0)
		for range turn {
			var err error
			if n%2 == 0 {
				file.Append(b, frames)
			} else if last, err = log.Append(frames, count); err != nil {
				b.Fatal(err)
			}
		}
		log.Handled(start.Writer, last, 0)
		times[n%2] = append(times[n%2], time.Since(began))
	}
	file.ReportShare(b, times[0], times[1], turn*count)
}
