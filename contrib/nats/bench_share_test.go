// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// The bridge and other ways to publish, in turns, which a busy machine disturbs alike.

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
)

// A shareWay is a way to publish messages. It returns when all of them are acknowledged.
type shareWay struct {
	name    string
	publish func(messages int)
	times   []time.Duration
}

// median returns the median of the turns.
func (w *shareWay) median() time.Duration {
	slices.Sort(w.times)
	return w.times[len(w.times)/2]
}

// BenchmarkShare has these publish to one stream, in turns, and reports the bridge's share of the rate of each:
//
//   - alone: nats.go, asynchronously, 4,000 at most in flight. Nothing keeps a message from being stored twice
//     or behind a later one;
//   - ids: the same with a Nats-Msg-Id;
//   - atomic: the atomic batches of the server, 1 MiB or 1,000 messages, one after another, from as many
//     goroutines as there are Writers.
//
// Run it with -benchtime 1x.
func BenchmarkShare(b *testing.B) {
	w := newBenchWorld(b)
	for _, writers := range []int{1, 4} {
		for i, size := range benchSizes {
			messages := []int{20_000, 10_000, 1_600}[i]
			b.Run(fmt.Sprintf("writers=%d/%d", writers, size), func(b *testing.B) {
				w.benchShare(b, writers, size, messages)
			})
		}
	}
}

func (w *benchWorld) benchShare(b *testing.B, writers, size, messages int) {
	all := w.startBench(b, writers, nil, nil)
	js, err := jetstream.New(w.js.Conn(), jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, size)
	next := 0
	ways := []*shareWay{
		{name: "alone", publish: func(n int) { publishAlone(b, js, data, n, nil) }},
		{name: "ids", publish: func(n int) { publishAlone(b, js, data, n, &next) }},
		{name: "atomic", publish: func(n int) { publishAtomic(b, js.Conn(), writers, data, n, &next) }},
		{name: "bridge", publish: func(n int) { throughBridge(b, all, data, n) }},
	}
	for range 9 {
		for _, way := range ways {
			began := time.Now()
			way.publish(messages)
			way.times = append(way.times, time.Since(began))
		}
	}
	for _, one := range all {
		one.Close()
	}
	bridge := ways[3].median()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(messages)/bridge.Seconds(), "messages/s")
	for _, way := range ways[:3] {
		b.ReportMetric(float64(way.median())/float64(bridge), "of-"+way.name)
	}
}

// publishAlone publishes asynchronously, with message IDs if next is not nil.
func publishAlone(b *testing.B, js jetstream.JetStream, data []byte, messages int, next *int) {
	b.Helper()
	for range messages {
		m := &nats.Msg{Subject: "events.alone", Data: data}
		if next != nil {
			*next++
			m.Header = nats.Header{nats.MsgIdHdr: {"0-0123456789abcdef0123456789abcdef." + strconv.Itoa(*next)}}
		}
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(20*time.Second)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
}

// publishAtomic publishes atomic batches from some goroutines.
func publishAtomic(b *testing.B, nc *nats.Conn, goroutines int, data []byte, messages int, next *int) {
	b.Helper()
	var sending sync.WaitGroup
	for i := range goroutines {
		*next++
		id := "bench" + strconv.Itoa(*next)
		sending.Go(func() {
			subject := "events.atomic" + strconv.Itoa(i)
			for n, left := 0, messages/goroutines; left > 0; n++ {
				batch := min(left, 1000, (1<<20)/len(data))
				left -= batch
				if err := publishBatch(nc, subject, fmt.Sprint(id, "-", n), data, batch); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	sending.Wait()
}

func publishBatch(nc *nats.Conn, subject, id string, data []byte, messages int) error {
	m := &nats.Msg{Subject: subject, Data: data, Header: nats.Header{"Nats-Batch-Id": {id}}}
	for i := 1; i < messages; i++ {
		m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(i)}
		if err := nc.PublishMsg(m); err != nil {
			return err
		}
	}
	m.Header["Nats-Batch-Sequence"] = []string{strconv.Itoa(messages)}
	m.Header["Nats-Batch-Commit"] = []string{"1"}
	answer, err := nc.RequestMsg(m, 20*time.Second)
	if err == nil && !strings.Contains(string(answer.Data), fmt.Sprintf(`"count":%d}`, messages)) {
		err = fmt.Errorf("answer %s", answer.Data)
	}
	return err
}

func throughBridge(b *testing.B, all []*udsipc.Writer, data []byte, messages int) {
	b.Helper()
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
}
