// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// What happens to messages that come again: after a killed bridge, through two bridges at once, and behind the
// duplicate window.

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// deliveries returns the messages FROM to TO-1 of a writer, whose numbers are one larger.
func deliveries(writer byte, from, to int, redelivered bool) (batch []udsipc.Delivery) {
	for n := from; n < to; n++ {
		batch = append(batch, udsipc.Delivery{
			Data: fmt.Append(nil, n), Writer: udsipc.WriterID{writer}, Seq: uint64(n + 1), Redelivered: redelivered,
			Peer: udsipc.Peer{Credentials: &udsipc.Credentials{UID: 7}},
		})
	}
	return batch
}

func (w *world) handles(p *natsbridge.Publisher, batch []udsipc.Delivery) {
	w.Helper()
	if err := p.Handle(w.ctx, batch); err != nil {
		w.Error(err)
	}
}

// TestPublisher_NextBridge_LeavesOutStored: what the stream has is not published again by a bridge that knows
// nothing, however the batches are cut.
func TestPublisher_NextBridge_LeavesOutStored(t *testing.T) {
	for name, opts := range map[string][]natsbridge.PublisherOption{
		"last IDs": nil, "all IDs": {natsbridge.WithMessageIDs()},
		"subject": {natsbridge.WithSubject(func(*udsipc.Delivery) string { return "a.b" })},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, streamConfig(), nil)
			w.handles(w.publisher(w.js, opts...), deliveries(1, 0, 10, false))
			next := w.publisher(w.js, opts...)
			w.handles(next, deliveries(1, 3, 15, true))
			w.handles(next, deliveries(1, 15, 20, false))
			w.handles(w.publisher(w.js, opts...), deliveries(1, 0, 20, false)) // It has not learned that they come again.
			w.handles(w.publisher(w.js, opts...), deliveries(1, 0, 21, true))
			w.wantOnce(1, 21)
			if m := next.Metrics(); m.Published != 10 || m.Skipped != 7 || m.Failed != 0 {
				t.Errorf("%+v", m)
			}
		})
	}
}

// TestPublisher_ConcurrentBridges_StoreOnce: the messages of each writer go through several bridges at the
// same time.
func TestPublisher_ConcurrentBridges_StoreOnce(t *testing.T) {
	for _, servers := range []int{1, 3} {
		t.Run(fmt.Sprint(servers, " servers"), func(t *testing.T) {
			const bridges, writers, messages = 3, 3, 300
			w := newWorld(t, servers, streamConfig(), nil)
			var all sync.WaitGroup
			var ps []*natsbridge.Publisher
			for b := range bridges {
				p := w.publisher(w.connect(b % servers))
				ps = append(ps, p)
				for writer := range writers {
					all.Go(func() {
						for from := 0; from < messages; {
							to := min(messages, from+1+rand.IntN(30))
							w.handles(p, deliveries(byte(1+writer), from, to, true))
							from = to - rand.IntN(to-from) // Some come again.
							if to == messages {
								break
							}
						}
					})
				}
			}
			all.Wait()
			w.wantOnce(writers, messages)
			conflicts := uint64(0)
			for _, p := range ps {
				conflicts += p.Metrics().Conflicts
			}
			if t.Logf("%d conflicts", conflicts); conflicts == 0 {
				t.Error("the bridges do not meet")
			}
		})
	}
}

// TestPublisher_WorkQueue_UsesWindow: consumers have removed the messages that come again.
func TestPublisher_WorkQueue_UsesWindow(t *testing.T) {
	cfg := streamConfig()
	cfg.Retention = jetstream.WorkQueuePolicy
	w := newWorld(t, 1, cfg, nil)
	w.handles(w.publisher(w.js), deliveries(1, 0, 10, false))
	c, err := w.stream.CreateConsumer(w.ctx, jetstream.ConsumerConfig{
		Durable: "c", AckPolicy: jetstream.AckExplicitPolicy,
	})
	if err != nil {
		t.Fatal(err)
	}
	next := 0
	take := func(want int) {
		t.Helper()
		got, err := c.Fetch(100, jetstream.FetchMaxWait(200*time.Millisecond))
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for m := range got.Messages() {
			if string(m.Data()) != fmt.Sprint(next) {
				t.Errorf("message %s: want %d", m.Data(), next)
			}
			if err := m.DoubleAck(w.ctx); err != nil {
				t.Fatal(err)
			}
			next++
			n++
		}
		if n != want {
			t.Errorf("%d messages: want %d", n, want)
		}
	}
	take(10)
	again := w.publisher(w.js)
	w.handles(again, append(deliveries(1, 4, 10, true), deliveries(1, 10, 15, false)...))
	take(5)
	w.handles(again, deliveries(1, 15, 20, false))
	take(5)
	if m := again.Metrics(); m.Published != 10 || m.Skipped != 6 {
		t.Errorf("%+v", m)
	}
}

// TestPublisher_Purged_GoesOn: the stream has forgotten a writer, but the duplicate window has not.
func TestPublisher_Purged_GoesOn(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	p := w.publisher(w.js)
	w.handles(p, deliveries(1, 0, 10, false))
	if err := w.stream.Purge(w.ctx); err != nil {
		t.Fatal(err)
	}
	w.handles(p, deliveries(1, 10, 20, false))
	if n := len(w.all()); n != 10 {
		t.Errorf("%d messages: want 10", n)
	}
	if err := w.stream.Purge(w.ctx); err != nil {
		t.Fatal(err)
	}
	next := w.publisher(w.js)
	w.handles(next, deliveries(1, 15, 20, true))
	w.handles(next, deliveries(1, 20, 30, false))
	if n := len(w.all()); n != 14 { // The last one of before has an ID.
		t.Errorf("%d messages: want 14", n)
	}
}

// TestPublisher_SameIDOtherUser_IsSeparateWriter: nobody has the messages of another user left out.
func TestPublisher_SameIDOtherUser_IsSeparateWriter(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	p := w.publisher(w.js)
	w.handles(p, deliveries(1, 0, 10, false))
	other := deliveries(1, 0, 5, false)
	for i := range other {
		other[i].Peer.Credentials = &udsipc.Credentials{UID: 8}
	}
	w.handles(p, other)
	if n := len(w.all()); n != 15 {
		t.Errorf("%d messages: want 15", n)
	}
}

// TestPublisher_ContextEnds_ReturnsAtOnce: the messages stay with their writers.
func TestPublisher_ContextEnds_ReturnsAtOnce(t *testing.T) {
	w := newWorld(t, 1, jetstream.StreamConfig{}, nil)
	p := w.publisher(w.js)
	ctx, cancel := context.WithCancel(w.ctx)
	returned := make(chan error)
	batch := deliveries(1, 0, 100, false)
	go func() { returned <- p.Handle(ctx, batch) }()
	w.await("stream not found")
	cancel()
	if err := <-returned; err != context.Canceled {
		t.Error(err)
	}
	clear(batch) // It belongs to its owner again.
	if m := p.Metrics(); m.Waiting != 0 {
		t.Errorf("%+v", m)
	}
}
