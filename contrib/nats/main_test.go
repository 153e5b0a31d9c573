// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// What the tests share: a cluster, a bridge to it, and what must be in the stream in the end.

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
	"github.com/udsipc/udsipc/contrib/nats/internal/cluster"
)

// A world is a cluster with a stream, as a test sees it.
type world struct {
	*testing.T
	*cluster.Cluster
	js     jetstream.JetStream // Of the test.
	stream jetstream.Stream
	ctx    context.Context
	dir    string
	states states
}

// streamConfig is a stream that a Publisher can use.
func streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: "EVENTS", Subjects: []string{"events.>"}, AllowAtomicPublish: true, AllowDirect: true,
	}
}

func newWorld(t *testing.T, servers int, cfg jetstream.StreamConfig, change func(int, *server.Options)) *world {
	t.Helper()
	w := &world{T: t, dir: t.TempDir()}
	var err error
	if w.Cluster, err = cluster.Start(servers, w.dir, change); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Cluster.Close)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	w.ctx = ctx
	w.js = w.connect(0)
	if cfg.Name != "" {
		if w.stream, err = w.CreateStream(ctx, w.js, cfg); err != nil {
			t.Fatal(err)
		}
	}
	return w
}

// restarts restarts the server with other options. It has data races of its own if it reloads them (2.14).
func (w *world) restarts(change func()) {
	w.Helper()
	w.StopServer(0)
	change()
	if err := w.StartServer(0); err != nil {
		w.Fatal(err)
	}
}

func (w *world) connect(first int, opts ...nats.Option) jetstream.JetStream {
	w.Helper()
	js, err := w.Connect(first, opts...)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(js.Conn().Close)
	return js
}

// publisher returns a Publisher that tells the world its states.
func (w *world) publisher(js jetstream.JetStream, opts ...natsbridge.PublisherOption) *natsbridge.Publisher {
	w.Helper()
	opts = append([]natsbridge.PublisherOption{
		natsbridge.WithStateCallback(w.states.add), natsbridge.WithMaxBackoff(200 * time.Millisecond),
		natsbridge.WithSingleMessages(0), // Most tests are of batches, and have one server.
	}, opts...)
	p, err := natsbridge.NewPublisher(js, "EVENTS", "events", opts...)
	if err != nil {
		w.Fatal(err)
	}
	return p
}

// reads starts a Reader for a Publisher.
func (w *world) reads(p *natsbridge.Publisher, opts ...udsipc.ReaderOption) *udsipc.Reader {
	w.Helper()
	r, err := udsipc.NewBatchReader(p.Handle, w.address(), opts...)
	if err != nil {
		w.Fatal(err)
	}
	if err := r.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { r.Close() })
	return r
}

func (w *world) address() string { return filepath.Join(w.dir, "s") }

// writes starts an acknowledged Writer.
func (w *world) writes(opts ...udsipc.WriterOption) *udsipc.Writer {
	w.Helper()
	opts = append([]udsipc.WriterOption{
		udsipc.WithAcknowledgements(), udsipc.WithOverflow(udsipc.OverflowBlock),
		udsipc.WithMaxBackoff(50 * time.Millisecond),
	}, opts...)
	wr, err := udsipc.NewWriter(w.address(), opts...)
	if err != nil {
		w.Fatal(err)
	}
	if err := wr.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { wr.Close() })
	return wr
}

// send writes the messages "FROM" to "TO-1" and waits until they are acknowledged.
func (w *world) send(wr *udsipc.Writer, from, to int) {
	w.Helper()
	for n := from; n < to; n++ {
		if err := wr.WriteMessageContext(w.ctx, fmt.Append(nil, n)); err != nil {
			w.Error(err)
			return
		}
	}
	if err := wr.Flush(w.ctx); err != nil {
		w.Error(err)
	}
}

// asks repeats a request to JetStream until it succeeds: a server that ends takes those that it has with it.
func (w *world) asks(request func(ctx context.Context) error) {
	w.Helper()
	for {
		ctx, cancel := context.WithTimeout(w.ctx, 2*time.Second)
		err := request(ctx)
		cancel()
		switch {
		case err == nil:
			return
		case w.ctx.Err() != nil:
			w.Fatal(err)
		}
		w.Log(err)
		time.Sleep(10 * time.Millisecond)
	}
}

// A stored message is one of the stream.
type storedMessage struct {
	subject, data string
	header        nats.Header
}

// all returns the messages of the stream.
func (w *world) all() (all []storedMessage) {
	w.Helper()
	w.each(func(m storedMessage) { all = append(all, m) })
	return all
}

// each calls visit for each message of the stream.
func (w *world) each(visit func(m storedMessage)) {
	w.Helper()
	var info *jetstream.StreamInfo
	w.asks(func(ctx context.Context) (err error) {
		info, err = w.stream.Info(ctx)
		return err
	})
	last, left := uint64(0), info.State.Msgs
	for left > 0 && w.ctx.Err() == nil {
		cfg := jetstream.OrderedConsumerConfig{DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: last + 1}
		c, err := w.stream.OrderedConsumer(w.ctx, cfg)
		for err == nil && left > 0 { // After an error, its server may not be the one of the stream yet.
			var batch jetstream.MessageBatch
			if batch, err = c.Fetch(int(min(5000, left)), jetstream.FetchMaxWait(10*time.Second)); err != nil {
				break
			}
			for m := range batch.Messages() {
				meta, err := m.Metadata()
				if err != nil || meta.Sequence.Stream <= last {
					w.Fatalf("message %d, %v", last, err)
				}
				last = meta.Sequence.Stream
				visit(storedMessage{m.Subject(), string(m.Data()), m.Headers()})
				left--
			}
			err = batch.Error()
		}
	}
	if w.ctx.Err() != nil {
		w.Fatalf("%d of %d messages are not read", left, info.State.Msgs)
	}
}

// wantOnce checks that the stream has the messages "0" to "N-1" of each of the writers, once and in order.
func (w *world) wantOnce(writers, n int) {
	w.Helper()
	next := make(map[string]int)
	bad := 0
	for _, m := range w.all() {
		writer := m.subject[strings.Index(m.subject, "-"):] // Without an end that WithSubject makes.
		writer, _, _ = strings.Cut(writer, ".")
		if m.data != fmt.Sprint(next[writer]) {
			if bad++; bad < 5 {
				w.Errorf("message %q of writer %s: want %d", m.data, writer, next[writer])
			}
			continue
		}
		next[writer]++
	}
	if len(next) != writers || bad > 0 {
		w.Errorf("%d writers, %d messages out of place: want %d, 0", len(next), bad, writers)
	}
	for writer, got := range next {
		if got != n {
			w.Errorf("%d messages of writer %s: want %d", got, writer, n)
		}
	}
}

// states are the calls of a state callback.
type states struct {
	mu   sync.Mutex
	all  []string
	wake chan struct{}
}

func (s *states) add(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, fmt.Sprint(cause))
	if s.wake != nil {
		close(s.wake)
		s.wake = nil
	}
}

// await waits until one of the states has a text, and returns it.
func (w *world) await(text string) string {
	w.Helper()
	for {
		w.states.mu.Lock()
		for _, s := range w.states.all {
			if strings.Contains(s, text) {
				w.states.mu.Unlock()
				return s
			}
		}
		if w.states.wake == nil {
			w.states.wake = make(chan struct{})
		}
		wake := w.states.wake
		w.states.mu.Unlock()
		select {
		case <-wake:
		case <-w.ctx.Done():
			w.Fatalf("no state has %q: %q", text, w.states.all)
		}
	}
}
