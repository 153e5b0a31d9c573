// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// plain returns the messages of a connection without acknowledgements.
func plain(from, to int) []udsipc.Delivery {
	batch := deliveries(0, from, to, false)
	for i := range batch {
		batch[i].Peer.ID = 1
	}
	return batch
}

// TestPublisher_PlainMessageRefused_StoresOthers: a Reader does not deliver plain messages again.
func TestPublisher_PlainMessageRefused_StoresOthers(t *testing.T) {
	cfg := streamConfig()
	cfg.MaxMsgSize = 1000
	w := newWorld(t, 1, cfg, nil)
	p := w.publisher(w.js)
	batch := plain(0, 100)
	batch[40].Data, batch[90].Data = make([]byte, 2000), make([]byte, 2000)
	if err := p.Handle(w.ctx, batch); err == nil || !strings.Contains(err.Error(), "too large") {
		t.Error(err)
	}
	w.handles(p, plain(100, 110))
	if n := len(w.all()); n != 108 {
		t.Errorf("%d messages: want 108", n)
	}
	if m := p.Metrics(); m.Waiting != 0 || m.Published != 108 {
		t.Errorf("%+v", m)
	}
}

// TestPublisher_PlainConnectionsOfReaders_AreApart: each Reader counts its connections from 1.
func TestPublisher_PlainConnectionsOfReaders_AreApart(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	p := w.publisher(w.js)
	w.handles(p, plain(0, 10))
	w.handles(p, plain(0, 15))
	if n := len(w.all()); n != 25 {
		t.Errorf("%d messages: want 25", n)
	}
}

// TestPublisher_CallbackFails_CostsItsMessage: the goroutine that calls it is not that of a handler.
func TestPublisher_CallbackFails_CostsItsMessage(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic("no subject") }, "exit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, 1, streamConfig(), nil)
			p := w.publisher(w.js, natsbridge.WithSubject(func(d *udsipc.Delivery) string {
				if d.Seq == 5 {
					fail()
				}
				return "x"
			}))
			var mu sync.Mutex
			var dead []uint64
			w.reads(p, udsipc.WithMaxRedeliveries(0), udsipc.WithReaderErrorCallback(func(error, string) {}),
				udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) {
					mu.Lock()
					defer mu.Unlock()
					dead = append(dead, d.Seq)
					t.Log(err)
				}))
			w.send(w.writes(), 0, 20)
			mu.Lock()
			defer mu.Unlock()
			if n := len(w.all()); n != 19 || fmt.Sprint(dead) != "[5]" {
				t.Errorf("%d messages, dead letters %v: want 19, [5]", n, dead)
			}
		})
	}
}

// stuck has one Writer whose messages the stream does not take. The others go on.
func (w *world) stuck(p *natsbridge.Publisher, from int, report string) (mended func()) {
	w.Helper()
	ended := make(chan error, 1)
	go func() { ended <- p.Handle(w.ctx, deliveries(1, from, from+10, true)) }()
	w.await(report)
	for n := range 50 {
		for writer := byte(2); writer < 5; writer++ {
			if err := p.Handle(w.ctx, deliveries(writer, 10*n, 10*n+10, n > 0)); err != nil {
				w.Fatalf("batch %d of writer %d: %v: %+v", n, writer, err, p.Metrics())
			}
		}
	}
	w.states.mu.Lock()
	causes := make(map[string]bool)
	for _, s := range w.states.all {
		if s == "<nil>" || causes[s] {
			w.Errorf("reports: %q: want each cause once, and no end", w.states.all)
			break
		}
		causes[s] = true
	}
	w.states.mu.Unlock()
	return func() {
		w.Helper()
		if err := <-ended; err != nil {
			w.Error(err)
		}
	}
}

// TestPublisher_ForeignMessage_DelaysItsWriter alone.
func TestPublisher_ForeignMessage_DelaysItsWriter(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	foreign, err := w.js.Publish(w.ctx, "events.7-01000000000000000000000000000000", nil)
	if err != nil {
		t.Fatal(err)
	}
	mended := w.stuck(w.publisher(w.js), 0, "another program")
	if err := w.stream.DeleteMsg(w.ctx, foreign.Sequence); err != nil {
		t.Fatal(err)
	}
	mended()
	w.await("<nil>")
}

// TestPublisher_SubjectIsFull_DelaysItsWriter alone.
func TestPublisher_SubjectIsFull_DelaysItsWriter(t *testing.T) {
	cfg := streamConfig()
	cfg.Discard, cfg.DiscardNewPerSubject, cfg.MaxMsgsPerSubject = jetstream.DiscardNew, true, 600
	w := newWorld(t, 1, cfg, nil)
	p := w.publisher(w.js)
	w.handles(p, deliveries(1, 0, 595, false))
	mended := w.stuck(p, 595, "maximum messages per subject exceeded")
	cfg.MaxMsgsPerSubject = 2000
	if _, err := w.js.UpdateStream(w.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	mended()
	w.await("<nil>")
}

// TestPublisher_LostPermissionOfSubject_DelaysItsWriter alone.
func TestPublisher_LostPermissionOfSubject_DelaysItsWriter(t *testing.T) {
	w, js, allow := newRestrictedWorld(t, "events.7-01000000000000000000000000000000")
	mended := w.stuck(w.publisher(js, natsbridge.WithAckTimeout(100*time.Millisecond)), 0, "permissions violation")
	allow()
	mended()
}

// TestPublisher_DeleteMarker_IsNoForeignMessage: the server puts it in the place of the last message of a subject.
func TestPublisher_DeleteMarker_IsNoForeignMessage(t *testing.T) {
	cfg := streamConfig()
	cfg.MaxAge, cfg.Duplicates = 300*time.Millisecond, 100*time.Millisecond
	cfg.SubjectDeleteMarkerTTL, cfg.AllowMsgTTL, cfg.AllowRollup = time.Minute, true, true
	w := newWorld(t, 1, cfg, nil)
	w.handles(w.publisher(w.js), deliveries(1, 0, 10, false))
	for {
		m, err := w.stream.GetLastMsgForSubject(w.ctx, "events.>")
		if err == nil && m.Header.Get(jetstream.MarkerReasonHeader) != "" {
			break
		}
		if w.ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
	cfg.MaxAge = time.Hour // The marker stays.
	if _, err := w.js.UpdateStream(w.ctx, cfg); err != nil {
		t.Fatal(err)
	}
	p := w.publisher(w.js)
	if err := p.Handle(w.ctx, deliveries(1, 10, 20, true)); err != nil {
		t.Errorf("%v: %q", err, w.states.all)
	}
	if m := p.Metrics(); m.Published != 10 {
		t.Errorf("%+v", m)
	}
}

// TestPublisher_SmallerBatchesOfServer_AreLearned: without a report.
func TestPublisher_SmallerBatchesOfServer_AreLearned(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), func(_ int, o *server.Options) { o.JetStreamLimits.MaxBatchSize = 100 })
	p := w.publisher(w.js)
	w.handles(p, deliveries(1, 0, 3000, false))
	w.wantOnce(1, 3000)
	if m := p.Metrics(); m.Failed > 8 || len(w.states.all) > 0 {
		t.Errorf("%+v, %q", m, w.states.all)
	}
}

// TestPublisher_WorkQueueLostAnswer_TakesWindow: the messages that were stored are consumed before the next try. The
// answers go to another one.
func TestPublisher_WorkQueueLostAnswer_TakesWindow(t *testing.T) {
	cfg := streamConfig()
	cfg.Retention = jetstream.WorkQueuePolicy
	w := newWorld(t, 1, cfg, nil)
	p := w.publisher(w.js)
	w.handles(w.publisher(w.js), deliveries(1, 0, 200, false))
	if err := w.stream.Purge(w.ctx); err != nil { // They are consumed.
		t.Fatal(err)
	}
	began := time.Now()
	w.handles(p, deliveries(1, 0, 210, false))
	if n := len(w.states.all); n > 0 || p.Metrics().Failed > 4 {
		t.Errorf("%q, %+v", w.states.all, p.Metrics())
	}
	w.handles(p, deliveries(1, 210, 220, false))
	t.Log(time.Since(began), p.Metrics())
	if info, err := w.stream.Info(w.ctx); err != nil || info.State.Msgs != 20 {
		t.Errorf("%+v, %v: want 20 messages", info, err)
	}
}
