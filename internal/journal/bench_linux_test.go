// SPDX-License-Identifier: Apache-2.0

package journal_test

// How fast a log on a real disk is. The disk is the one of TMPDIR; BenchmarkBareDisk tells what it does
// without a log. What is read cold is not in the memory of the kernel.

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

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
					log.Handled(start.Writer, first)
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
		if err := log.Handled(batch.Writer, at); err != nil {
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
							log.Handled(start.Writer, first)
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

// BenchmarkBareDisk is a file without a log: a write and an fdatasync(2) for each batch of 256 messages, and the
// time of a sync alone.
func BenchmarkBareDisk(b *testing.B) {
	for _, count := range []int{1, 256} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			file, err := os.Create(filepath.Join(b.TempDir(), "file"))
			if err != nil {
				b.Fatal(err)
			}
			defer file.Close()
			frames := benchFrames(count, 128)
			var syncs time.Duration
			for at := int64(0); b.Loop(); at = (at + int64(len(frames))) % (16 << 20) {
				if at == 0 {
					file.Truncate(0)
				}
				if _, err := file.WriteAt(frames, at); err != nil {
					b.Fatal(err)
				}
				began := time.Now()
				if err := syscall.Fdatasync(int(file.Fd())); err != nil {
					b.Fatal(err)
				}
				syncs += time.Since(began)
			}
			reportMessages(b, count)
			b.ReportMetric(float64(syncs.Microseconds())/float64(b.N), "µs/sync")
		})
	}
}

// gibibyte writes 1 GiB that waits, and returns the directory.
func gibibyte(b *testing.B, config journal.Config) string {
	path := b.TempDir()
	log, _, end := openReal(b, path, config)
	frames := benchFrames(512, 128)
	for log.Counts().Bytes < 1<<30 {
		if _, err := log.Append(frames, 512); err != nil {
			b.Fatal(err)
		}
	}
	end()
	return path
}

// evict takes the files of a directory out of the memory of the kernel.
func evict(b *testing.B, path string) {
	b.Helper()
	const dontNeed = 4 // POSIX_FADV_DONTNEED
	entries, err := os.ReadDir(path)
	if err != nil {
		b.Fatal(err)
	}
	for _, entry := range entries {
		file, err := os.Open(filepath.Join(path, entry.Name()))
		if err != nil {
			b.Fatal(err)
		}
		file.Sync()
		if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
			b.Fatal(errno)
		}
		file.Close()
	}
	os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0) // The directory; only root may.
}

// BenchmarkCold opens a log in which 1 GiB waits, and reads and handles it.
func BenchmarkCold(b *testing.B) {
	config := journal.Config{Sync: time.Second, MinFree: benchMinFree}
	path := gibibyte(b, config)
	b.Run("open", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			evict(b, path)
			b.StartTimer()
			_, _, end := openReal(b, path, config)
			b.StopTimer()
			end()
		}
		b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms")
	})
	b.Run("read", func(b *testing.B) {
		for range b.N {
			b.StopTimer()
			evict(b, path)
			log, _, end := openReal(b, path, config)
			evict(b, path)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			b.StartTimer()
			n := 0
			for {
				batch, err := log.Next()
				if err == io.EOF {
					break
				}
				if err != nil {
					b.Fatal(err)
				}
				n += batch.Count
			}
			b.StopTimer()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/(1<<20), "MiB-allocated")
			b.ReportMetric(float64(n), "messages")
			end()
		}
		b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms")
	})
}
