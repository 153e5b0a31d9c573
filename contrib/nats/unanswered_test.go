// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// A stream in the test's own hands, whose answers can be kept back.

import (
	"encoding/json"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// A slowStream answers as a stream that stores all. It may keep answers back.
type slowStream struct {
	mu     sync.Mutex // Guards what follows.
	seq    uint64
	mute   int                 // So many of the next messages that want an answer get none.
	silent map[string]struct{} // Batches without an answer, after which nothing was answered.
	broken []string            // What was published in spite of them.
}

func (w *world) slowStream(mute int) *slowStream {
	w.Helper()
	s := &slowStream{mute: mute, silent: make(map[string]struct{})}
	nc := w.connect(0).Conn()
	for subject, handle := range map[string]nats.MsgHandler{
		"$JS.API.STREAM.INFO.EVENTS": func(m *nats.Msg) {
			text, _ := json.Marshal(jetstream.StreamInfo{Config: streamConfig()})
			_ = m.Respond(text)
		},
		"$JS.API.DIRECT.GET.EVENTS.>": func(m *nats.Msg) {
			_ = m.RespondMsg(&nats.Msg{Header: nats.Header{"Status": {"404"}, "Description": {"Message Not Found"}}})
		},
		"events.>": s.publish,
	} {
		if _, err := nc.Subscribe(subject, handle); err != nil {
			w.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		w.Fatal(err)
	}
	return s
}

func (s *slowStream) publish(m *nats.Msg) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m.Reply == "" {
		return
	}
	id, count := m.Header.Get("Nats-Batch-Id"), m.Header.Get("Nats-Batch-Sequence")
	if id != "" && len(s.silent) > 0 {
		s.broken = append(s.broken, id+" of "+count)
	}
	if s.mute > 0 {
		if s.mute--; id != "" {
			s.silent[id] = struct{}{}
		}
		return
	}
	clear(s.silent)
	n := 1
	fmt.Sscan(count, &n)
	s.seq += uint64(n)
	_ = m.Respond(fmt.Appendf(nil, `{"stream":"EVENTS","seq":%d,"batch":%q,"count":%d}`, s.seq, id, n))
}

// TestPublisher_BatchUnanswered_NoOtherIsCommitted until a message alone that was sent later has an answer: a server
// that was slow could put both batches into one entry of its log.
func TestPublisher_BatchUnanswered_NoOtherIsCommitted(t *testing.T) {
	for _, mute := range []int{1, 3} {
		t.Run(fmt.Sprint(mute), func(t *testing.T) {
			w := newWorld(t, 1, jetstream.StreamConfig{}, func(_ int, o *server.Options) { o.JetStream = false })
			s := w.slowStream(mute)
			p := w.publisher(w.js, natsbridge.WithAckTimeout(300*time.Millisecond), natsbridge.WithMaxBatch(10))
			var handling sync.WaitGroup
			for writer := range byte(4) {
				handling.Go(func() {
					if err := p.Handle(w.ctx, deliveries(writer+1, 0, 40, false)); err != nil {
						t.Error(err)
					}
				})
			}
			handling.Wait()
			s.mu.Lock()
			defer s.mu.Unlock()
			if m := p.Metrics(); len(s.broken) > 0 || m.Failed == 0 || m.Published != 160 || m.Batches > 40 {
				t.Errorf("committed behind a batch without an answer: %q, %+v", s.broken, m)
			}
		})
	}
}
