// SPDX-License-Identifier: Apache-2.0

package spool_test

// What depends on the disk, beside what a bare file does: syncs, and 1 GiB that the kernel does not have in its memory.

import (
	"context"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/spool"
)

// BenchmarkSync0Share writes batches of 256 with a sync each, in turn fifty to a spool and to a bare file, so that both
// meet the same disk. The share is the rate of the spool, until all is handled, in that of the file.
func BenchmarkSync0Share(b *testing.B) {
	const count, turn = 256, 50
	p := newBenchPlace(b, b.TempDir(), spool.WithSync(0), spool.WithOverflow(udsipc.OverflowBlock))
	p.start()
	messages := benchMessages(count, 128)
	file := &ipctest.BareFile{Path: filepath.Join(b.TempDir(), "file")}
	frames := make([]byte, count*130+24)
	var times [2][]time.Duration // Of each turn.
	for n := 0; b.Loop(); n++ {
		began := time.Now()
		if n%2 == 0 {
			for range turn {
				file.Append(b, frames)
			}
		} else {
			p.write(messages, turn)
			p.flush()
		}
		times[n%2] = append(times[n%2], time.Since(began))
	}
	file.ReportShare(b, times[0], times[1], turn*count)
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
				bare += ipctest.ReadBare(b, dir)
				ipctest.Evict(b, dir)
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
