// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// What a stream costs its server in memory and on disk: docs/SCALING.md.

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

// BenchmarkCost stores messages with a subject each, with an ID each, and as a Publisher does. The first two
// are compared with messages of the same size on one subject without IDs, because a server caches what it has stored.
func BenchmarkCost(b *testing.B) {
	const messages = 200_000
	text := func(n int) string { return fmt.Sprintf("1000-%032x", uint64(n)*0x9e3779b97f4a7c15) }
	measure := func(b *testing.B, header string, subjects bool) (heap float64) {
		heap, _ = costOf(b, messages, func(js jetstream.JetStream) {
			for n := range messages {
				m := nats.NewMsg("events." + text(0))
				if subjects {
					m.Subject = "events." + text(n)
				}
				if header != "" {
					m.Header.Set(header, text(n))
				}
				if _, err := js.PublishMsgAsync(m); err != nil {
					b.Fatal(err)
				}
			}
		})
		return heap
	}
	b.Run("subject", func(b *testing.B) {
		b.ReportMetric(measure(b, "", true)-measure(b, "", false), "heap-B/subject")
	})
	b.Run("ID", func(b *testing.B) {
		b.ReportMetric(measure(b, nats.MsgIdHdr, false)-measure(b, "Some-Header", false), "heap-B/ID")
	})
	b.Run("Publisher", func(b *testing.B) {
		_, disk := costOf(b, messages, func(js jetstream.JetStream) {
			p, err := natsbridge.NewPublisher(js, "EVENTS", "events")
			if err != nil {
				b.Fatal(err)
			}
			for n := 0; n < messages; n += 1000 {
				batch := deliveries(1, n, n+1000, false)
				for i := range batch {
					batch[i].Data = make([]byte, 1024)
				}
				if err := p.Handle(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.ReportMetric(disk-1024, "disk-B/message")
	})
}

// costOf returns how many bytes of memory and of disk a message takes.
func costOf(b *testing.B, messages int, publish func(js jetstream.JetStream)) (heap, disk float64) {
	b.Helper()
	dir := b.TempDir()
	c, err := cluster.Start(1, dir, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	js, err := c.Connect(0)
	if err != nil {
		b.Fatal(err)
	}
	defer js.Conn().Close()
	cfg := streamConfig()
	cfg.Duplicates = time.Hour
	s, err := js.CreateStream(b.Context(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	before := liveHeap()
	publish(js)
	<-js.PublishAsyncComplete()
	info, err := s.Info(b.Context())
	if err != nil || info.State.Msgs != uint64(messages) {
		b.Fatalf("%+v, %v: want %d messages", info, err, messages)
	}
	heap = float64(liveHeap()-before) / float64(messages)
	size := int64(0)
	_ = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			if info, err := e.Info(); err == nil {
				size += info.Size()
			}
		}
		return nil
	})
	return heap, float64(size) / float64(messages)
}
