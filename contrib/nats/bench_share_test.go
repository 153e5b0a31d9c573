// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// The bridge and nats.go alone in turns, which a busy machine disturbs alike.

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
)

// BenchmarkShare has nats.go alone and the bridge take turns on one stream, and reports the bridge's share of its rate:
// the median of the turns. Run it with -benchtime 1x.
func BenchmarkShare(b *testing.B) {
	w := newBenchWorld(b)
	for _, writers := range []int{1, 4} {
		for i, size := range benchSizes {
			messages := []int{20_000, 10_000, 1_500}[i]
			b.Run(fmt.Sprintf("writers=%d/%d", writers, size), func(b *testing.B) {
				all := w.startBench(b, writers, 0, nil, nil)
				js, err := jetstream.New(w.js.Conn(), jetstream.WithPublishAsyncMaxPending(4000))
				if err != nil {
					b.Fatal(err)
				}
				data := make([]byte, size)
				var alone, bridge []time.Duration
				for range 11 {
					alone = append(alone, publishAlone(b, js, data, messages))
					bridge = append(bridge, throughBridge(b, all, data, messages))
				}
				for _, one := range all {
					one.Close()
				}
				slices.Sort(alone)
				slices.Sort(bridge)
				mid := len(alone) / 2
				b.ReportMetric(float64(alone[mid])/float64(bridge[mid]), "share")
				b.ReportMetric(float64(messages)/bridge[mid].Seconds(), "messages/s")
			})
		}
	}
}

func publishAlone(b *testing.B, js jetstream.JetStream, data []byte, messages int) time.Duration {
	b.Helper()
	began := time.Now()
	for range messages {
		if _, err := js.PublishAsync("events.alone", data, jetstream.WithStallWait(20*time.Second)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	return time.Since(began)
}

func throughBridge(b *testing.B, all []*udsipc.Writer, data []byte, messages int) time.Duration {
	b.Helper()
	began := time.Now()
	var sending sync.WaitGroup
	for _, one := range all {
		sending.Go(func() {
			for range messages / len(all) {
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
	return time.Since(began)
}
