// SPDX-License-Identifier: Apache-2.0

package spool_test

// What depends on the disk, beside what a bare file does: syncs, and 1 GiB that the kernel does not have in its memory.

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// BenchmarkSync0Share writes batches of 256 with a sync each, in turn fifty to a spool and to a bare file, so that both
// meet the same disk. The share is the rate of the spool, until all is handled, in that of the file.
func BenchmarkSync0Share(b *testing.B) {
	const count, turn = 256, 50
	p := newBenchPlace(b, b.TempDir(), spool.WithSync(0), spool.WithOverflow(udsipc.OverflowBlock))
	p.start()
	messages := benchMessages(count, 128)
	file := &bareFile{path: filepath.Join(b.TempDir(), "file")}
	frames := make([]byte, count*130+24)
	var times [2][]time.Duration // Of each turn. The medians leave out what others do to the disk.
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		if n%2 == 0 {
			for range turn {
				file.append(b, frames)
			}
		} else {
			p.write(messages, turn)
			p.flush()
		}
		times[n%2] = append(times[n%2], time.Since(began))
	}
	bare, own := median(times[0]), median(times[1])
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(bare.Seconds()/own.Seconds(), "of-bare")
	b.ReportMetric(turn*count/own.Seconds(), "messages/s")
	b.ReportMetric(float64(median(file.syncs).Microseconds()), "µs/bare-sync")
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return append(times, 0)[len(times)/2]
}

// A bareFile is written with a sync each, and made anew when it has the size of a segment.
type bareFile struct {
	path  string
	file  *os.File
	size  int64
	syncs []time.Duration
}

func (f *bareFile) append(tb testing.TB, data []byte) {
	if f.file == nil || f.size > 16<<20 {
		if f.file != nil {
			f.file.Close()
			os.Remove(f.path)
		}
		var err error
		if f.file, err = os.Create(f.path); err != nil {
			tb.Fatal(err)
		}
		f.size = 0
	}
	if _, err := f.file.WriteAt(data, f.size); err != nil {
		tb.Fatal(err)
	}
	f.size += int64(len(data))
	began := time.Now()
	if err := syscall.Fdatasync(int(f.file.Fd())); err != nil {
		tb.Fatal(err)
	}
	f.syncs = append(f.syncs, time.Since(began))
}

// BenchmarkGibibyte opens a spool in which 1 GiB waits, and delivers it; the kernel has nothing of it in its memory.
// The heap is what the program has more while it waits.
func BenchmarkGibibyte(b *testing.B) {
	for _, size := range []struct {
		name         string
		count, bytes int
	}{{"128B", 64, 128}, {"16KiB", 8, 16 << 10}} {
		b.Run(size.name, func(b *testing.B) {
			var opening, bare time.Duration
			var heap uint64
			messages := 0
			for range b.N {
				b.StopTimer()
				dir := b.TempDir()
				p := newBenchPlace(b, dir, spool.WithMaxBytes(2<<30))
				batch := benchMessages(size.count, size.bytes)
				batches := 1 << 30 / (size.count * size.bytes)
				before := heapInUse()
				p.write(batch, batches)
				heap = max(heap, heapInUse()-min(before, heapInUse()))
				p.stop()
				bare += readBare(b, dir)
				evict(b, dir)
				began := time.Now()
				p = newBenchPlace(b, dir, spool.WithMaxBytes(2<<30))
				opening += time.Since(began)
				b.StartTimer()
				p.start()
				p.flush()
				b.StopTimer()
				messages += batches * size.count
				p.stop()
			}
			reportRate(b, messages)
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/delivered")
			b.ReportMetric(float64(opening.Milliseconds())/float64(b.N), "ms/opened")
			b.ReportMetric(float64(bare.Milliseconds())/float64(b.N), "ms/bare-read")
			b.ReportMetric(float64(heap)/(1<<20), "MiB-heap")
		})
	}
}

// stop stops without delivering.
func (p *benchPlace) stop() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = p.writer.Stop(ctx)
}

func heapInUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
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
		if err = file.Sync(); err != nil {
			b.Fatal(err)
		}
		if _, _, errno := syscall.Syscall6(syscall.SYS_FADVISE64, file.Fd(), 0, 0, dontNeed, 0, 0); errno != 0 {
			b.Fatal(errno)
		}
		file.Close()
	}
	os.WriteFile("/proc/sys/vm/drop_caches", []byte("2"), 0) // The directory; only root may.
}

// readBare returns how long the disk takes for the files of a directory.
func readBare(b *testing.B, path string) time.Duration {
	evict(b, path)
	began := time.Now()
	entries, err := os.ReadDir(path)
	if err != nil {
		b.Fatal(err)
	}
	buf := make([]byte, 128<<10)
	for _, entry := range entries {
		file, err := os.Open(filepath.Join(path, entry.Name()))
		if err != nil {
			b.Fatal(err)
		}
		for err == nil {
			_, err = file.Read(buf)
		}
		file.Close()
	}
	return time.Since(began)
}
