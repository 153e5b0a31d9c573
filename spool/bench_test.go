// SPDX-License-Identifier: Apache-2.0

package spool_test

// How fast a spool is, from WriteMessage to the handler of a Reader in the same process. The disk is the one of TMPDIR;
// bench_linux_test.go has what depends on it most, and what it does without a spool.

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// A benchPlace is a spool with a Reader that counts.
type benchPlace struct {
	b       *testing.B
	dir     string
	writer  *spool.Writer
	handled atomic.Uint64
}

var benchQuiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func newBenchPlace(b *testing.B, dir string, opts ...spool.Option) *benchPlace {
	b.Helper()
	p := &benchPlace{b: b, dir: dir}
	address := filepath.Join(b.TempDir(), "s")
	reader, err := udsipc.NewReader(func([]byte) error { p.handled.Add(1); return nil }, address,
		udsipc.WithLogger(benchQuiet))
	if err != nil {
		b.Fatal(err)
	}
	if err = reader.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = reader.Stop(context.Background()) })
	p.open(address, opts...)
	return p
}

// open opens the spool. The benchmark stops it.
func (p *benchPlace) open(address string, opts ...spool.Option) {
	var err error
	p.writer, err = spool.NewWriter(p.dir, address, append(opts, spool.WithWriter(udsipc.WithLogger(benchQuiet)))...)
	if err != nil {
		p.b.Fatal(err)
	}
	p.b.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = p.writer.Stop(ctx)
	})
}

func (p *benchPlace) start() {
	if err := p.writer.Start(); err != nil {
		p.b.Fatal(err)
	}
}

func (p *benchPlace) flush() {
	if err := p.writer.Flush(context.Background()); err != nil {
		p.b.Fatal(err)
	}
}

// write writes so many messages as batches, and waits where the spool is full.
func (p *benchPlace) write(messages [][]byte, batches int) {
	for range batches {
		var err error
		if len(messages) == 1 {
			err = p.writer.WriteMessage(messages[0])
		} else {
			err = p.writer.WriteMessages(messages)
		}
		if err != nil {
			p.b.Error(err)
			return
		}
	}
}

// benchMessages returns messages of a size.
func benchMessages(count, size int) (messages [][]byte) {
	for range count {
		messages = append(messages, make([]byte, size))
	}
	return messages
}

func reportRate(b *testing.B, messages int) {
	b.ReportMetric(float64(messages)/b.Elapsed().Seconds(), "messages/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkDelivery writes messages of 128 bytes and waits until all are handled.
func BenchmarkDelivery(b *testing.B) {
	for _, count := range []int{1, 64} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			p := newBenchPlace(b, b.TempDir(), spool.WithOverflow(udsipc.OverflowBlock))
			p.start()
			messages := benchMessages(count, 128)
			b.ReportAllocs()
			b.ResetTimer()
			p.write(messages, b.N)
			p.flush()
			reportRate(b, b.N*count)
		})
	}
}

// BenchmarkWrite is the writes alone: nobody reads.
func BenchmarkWrite(b *testing.B) {
	for _, count := range []int{1, 64} {
		b.Run(fmt.Sprint(count), func(b *testing.B) {
			p := newBenchPlace(b, b.TempDir(), spool.WithOverflow(udsipc.OverflowDropOldest))
			messages := benchMessages(count, 128)
			b.ReportAllocs()
			b.ResetTimer()
			p.write(messages, b.N)
			reportRate(b, b.N*count)
		})
	}
}

// BenchmarkSync0 has a sync before each return, one message from each of many producers at a time.
func BenchmarkSync0(b *testing.B) {
	for _, producers := range []int{1, 64} {
		b.Run(fmt.Sprint(producers), func(b *testing.B) {
			p := newBenchPlace(b, b.TempDir(), spool.WithSync(0), spool.WithOverflow(udsipc.OverflowBlock))
			p.start()
			messages := benchMessages(1, 128)
			b.ReportAllocs()
			b.ResetTimer()
			var all sync.WaitGroup
			for n := range producers {
				all.Go(func() { p.write(messages, (b.N+n)/producers) })
			}
			all.Wait()
			p.flush()
			reportRate(b, b.N)
			m := p.writer.Metrics()
			b.ReportMetric(float64(b.N)/float64(m.SyncTime.Count), "messages/sync")
			b.ReportMetric(float64(m.SyncTime.P50)/float64(time.Microsecond), "µs/sync")
		})
	}
}
