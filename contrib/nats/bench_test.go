// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// The bridge beside nats.go alone, which publishes asynchronously to a stream of the same cluster: three
// servers in this process, replicas on three directories.

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

// benchSizes are the sizes of messages.
var benchSizes = []int{128, 1 << 10, 16 << 10}

// A benchWorld is a cluster for benchmarks. All of them use the same one: it takes seconds to start.
type benchWorld struct {
	*cluster.Cluster
	js   jetstream.JetStream
	made bool // The stream is there.
}

func newBenchWorld(b *testing.B) *benchWorld {
	b.Helper()
	c, err := cluster.Start(3, b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(c.Close)
	js, err := c.Connect(0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(js.Conn().Close)
	return &benchWorld{Cluster: c, js: js}
}

// stream makes the stream anew.
func (w *benchWorld) stream(b *testing.B) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	if w.made {
		if err := w.js.DeleteStream(ctx, "EVENTS"); err != nil {
			b.Fatal(err)
		}
	}
	w.made = true
	cfg := streamConfig()
	cfg.MaxBytes = 1 << 30
	if _, err := w.CreateStream(ctx, w.js, cfg); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkNatsAlone publishes with PublishMsgAsync, 4,000 at most in flight, with a message ID or without.
func BenchmarkNatsAlone(b *testing.B) {
	w := newBenchWorld(b)
	for _, ids := range []bool{false, true} {
		for _, size := range benchSizes {
			b.Run(fmt.Sprintf("ids=%v/%d", ids, size), func(b *testing.B) {
				w.stream(b)
				js, err := jetstream.New(w.js.Conn(), jetstream.WithPublishAsyncMaxPending(4000))
				if err != nil {
					b.Fatal(err)
				}
				data := make([]byte, size)
				b.SetBytes(int64(size))
				b.ResetTimer()
				for n := range b.N {
					m := &nats.Msg{Subject: "events.x", Data: data}
					if ids {
						m.Header = nats.Header{nats.MsgIdHdr: {fmt.Sprintf("0-0123456789abcdef0123456789abcdef.%d", n)}}
					}
					if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(20*time.Second)); err != nil {
						b.Fatal(err)
					}
				}
				<-js.PublishAsyncComplete()
			})
		}
	}
}

// startBench starts a bridge, as the daemon does, and Writers, which are connected.
func (w *benchWorld) startBench(b *testing.B, writers int, opts []natsbridge.PublisherOption,
	handled func(uint64)) []*udsipc.Writer {
	b.Helper()
	w.stream(b)
	p, err := natsbridge.NewPublisher(w.js, "EVENTS", "events", opts...)
	if err != nil {
		b.Fatal(err)
	}
	address := filepath.Join(b.TempDir(), "s")
	r, err := udsipc.NewBatchReader(p.Handle, address, udsipc.WithReadBufferSize(1<<20),
		udsipc.WithMaxBatchWait(time.Millisecond), udsipc.WithBatchWaitFrom(64<<10))
	if err != nil {
		b.Fatal(err)
	}
	if err := r.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		r.Close()
		if m := p.Metrics(); m.Batches > 0 {
			b.ReportMetric(float64(m.Published)/float64(m.Batches), "messages/batch")
		}
	})
	var all []*udsipc.Writer
	for range writers {
		opts := []udsipc.WriterOption{udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock)}
		if handled != nil {
			opts = append(opts, udsipc.WithHandled(handled))
		}
		one, err := udsipc.NewWriter(address, opts...)
		if err != nil {
			b.Fatal(err)
		}
		if err := one.Start(); err != nil {
			b.Fatal(err)
		}
		if err := one.WaitConnected(b.Context()); err != nil {
			b.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// BenchmarkBridge publishes what Writers send, until all of it is acknowledged.
func BenchmarkBridge(b *testing.B) {
	w := newBenchWorld(b)
	for _, ids := range []bool{false, true} {
		for _, writers := range []int{1, 4} {
			for _, size := range benchSizes {
				b.Run(fmt.Sprintf("ids=%v/writers=%d/%d", ids, writers, size), func(b *testing.B) {
					opts := []natsbridge.PublisherOption{}
					if ids {
						opts = append(opts, natsbridge.WithMessageIDs())
					}
					all := w.startBench(b, writers, opts, nil)
					sendBench(b, all, size)
				})
			}
		}
	}
}

// sendBench sends b.N messages.
func sendBench(b *testing.B, all []*udsipc.Writer, size int) {
	data := make([]byte, size)
	b.SetBytes(int64(size))
	b.ResetTimer()
	var sending sync.WaitGroup
	for i, one := range all {
		sending.Go(func() {
			for n := i; n < b.N; n += len(all) {
				if err := one.WriteMessage(data); err != nil {
					b.Error(err)
					return
				}
			}
			if err := one.Flush(b.Context()); err != nil {
				b.Error(err)
			}
		})
	}
	sending.Wait()
	b.StopTimer()
	for _, one := range all {
		one.Close()
	}
}

// BenchmarkBridgeLatency sends one message after another, and measures the time until the Writer learns
// that the cluster has it.
func BenchmarkBridgeLatency(b *testing.B) {
	w := newBenchWorld(b)
	for _, size := range benchSizes {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			handled := make(chan uint64, 1)
			one := w.startBench(b, 1, nil, func(number uint64) { handled <- number })[0]
			data := make([]byte, size)
			times := make([]time.Duration, 0, b.N)
			b.ResetTimer()
			for range b.N {
				began := time.Now()
				if err := one.WriteMessage(data); err != nil {
					b.Fatal(err)
				}
				<-handled
				times = append(times, time.Since(began))
			}
			b.StopTimer()
			slices.Sort(times)
			b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
			b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
			one.Close()
		})
	}
}

// BenchmarkBridgeHalfLoad sends at the rate in the name, about half of what BenchmarkShare has, and measures the same.
func BenchmarkBridgeHalfLoad(b *testing.B) {
	w := newBenchWorld(b)
	for i, rate := range []int{50_000, 30_000, 4_000} {
		size := benchSizes[i]
		b.Run(fmt.Sprintf("%d/rate=%d", size, rate), func(b *testing.B) {
			var mu sync.Mutex
			var times []time.Duration
			sent := make([]time.Time, 0, b.N)
			done := 0
			one := w.startBench(b, 1, nil, func(number uint64) {
				now := time.Now()
				mu.Lock()
				for ; done < int(number); done++ {
					times = append(times, now.Sub(sent[done]))
				}
				mu.Unlock()
			})[0]
			data := make([]byte, size)
			b.ResetTimer()
			began := time.Now()
			for n := range b.N {
				due := began.Add(time.Duration(n) * time.Second / time.Duration(rate))
				if wait := time.Until(due); wait > time.Millisecond {
					time.Sleep(wait)
				}
				mu.Lock()
				sent = append(sent, time.Now())
				mu.Unlock()
				if err := one.WriteMessageContext(b.Context(), data); err != nil {
					b.Fatal(err)
				}
			}
			if err := one.Flush(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			one.Close()
			slices.Sort(times)
			if len(times) > 0 {
				b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
				b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
			}
		})
	}
}
