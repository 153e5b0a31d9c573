// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// From the cluster to a local Reader.

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
)

// A receiver is a Reader that keeps what it gets.
type receiver struct {
	*world
	reader *udsipc.Reader
	mu     sync.Mutex
	got    []string
	wake   chan struct{}
}

func (w *world) receives(opts ...udsipc.ReaderOption) *receiver {
	w.Helper()
	r := &receiver{world: w, wake: make(chan struct{}, 1)}
	var err error
	r.reader, err = udsipc.NewReader(r.handle, filepath.Join(w.dir, "local"), opts...)
	if err != nil {
		w.Fatal(err)
	}
	if err := r.reader.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { r.reader.Close() })
	return r
}

func (r *receiver) handle(data []byte) error {
	r.mu.Lock()
	r.got = append(r.got, string(data))
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return nil
}

// await waits until there are n messages, and returns them.
func (r *receiver) await(n int) []string {
	r.Helper()
	for {
		r.mu.Lock()
		got := r.got
		r.mu.Unlock()
		if len(got) >= n {
			return got
		}
		select {
		case <-r.wake:
		case <-r.ctx.Done():
			r.Fatalf("%d messages: want %d", len(got), n)
		}
	}
}

// forwards starts a Forwarder. The function that it returns ends it.
func (w *world) forwards(opts ...natsbridge.ForwarderOption) (*natsbridge.Forwarder, func()) {
	w.Helper()
	opts = append([]natsbridge.ForwarderOption{
		natsbridge.WithForwarderStateCallback(w.states.add),
		natsbridge.WithWriterOptions(udsipc.WithMaxBackoff(50 * time.Millisecond)),
	}, opts...)
	f, err := natsbridge.NewForwarder(w.js, "EVENTS", "local", filepath.Join(w.dir, "local"), opts...)
	if err != nil {
		w.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Run(ctx) }() // Ends with ctx.
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			w.Log(err)
		}
	})
	w.Cleanup(end)
	return f, end
}

func (w *world) consumer() jetstream.Consumer {
	w.Helper()
	return w.consumerOf(func(*jetstream.ConsumerConfig) {})
}

// publishes publishes the messages FROM to TO-1.
func (w *world) publishes(from, to int) {
	w.Helper()
	for n := from; n < to; n++ {
		if _, err := w.js.PublishAsync("events.x", fmt.Append(nil, n)); err != nil {
			w.Fatal(err)
		}
	}
	select {
	case <-w.js.PublishAsyncComplete():
	case <-w.ctx.Done():
		w.Fatal("not published")
	}
}

func (w *world) infoOf(c jetstream.Consumer) (info *jetstream.ConsumerInfo) {
	w.Helper()
	w.asks(func(ctx context.Context) (err error) {
		info, err = c.Info(ctx)
		return err
	})
	return info
}

// wantAcked waits until JetStream waits for no message.
func (w *world) wantAcked(c jetstream.Consumer) {
	w.Helper()
	for {
		info := w.infoOf(c)
		if info.NumAckPending == 0 && info.NumPending == 0 && info.Delivered.Consumer > 0 { // At first it knows of none.
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func wantNumbers(t *testing.T, got []string, n int) {
	t.Helper()
	if len(got) != n {
		t.Errorf("%d messages: want %d", len(got), n)
	}
	for i, text := range got {
		if text != fmt.Sprint(i) {
			t.Fatalf("message %d is %q", i, text)
		}
	}
}

// TestForwarder_Messages_AreHandledInOrder, also while the Reader is away: JetStream then waits.
func TestForwarder_Messages_AreHandledInOrder(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	c := w.consumer()
	w.publishes(0, 1500)
	f, _ := w.forwards(natsbridge.WithKeepAlive(20 * time.Millisecond))
	for f.Metrics().Pending == 0 && w.ctx.Err() == nil { // There is no Reader yet.
		time.Sleep(time.Millisecond)
	}
	r := w.receives()
	w.publishes(1500, 3000)
	wantNumbers(t, r.await(3000), 3000)
	w.wantAcked(c)
	if m := f.Metrics(); m.Received != 3000 || m.Handled != 3000 || m.Returned != 0 || m.Pending != 0 {
		t.Errorf("%+v", m)
	}
}

// TestForwarder_Stop_GivesBack: the next Forwarder gets at once what no Reader has handled.
func TestForwarder_Stop_GivesBack(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	c := w.consumer()
	w.publishes(0, 100)
	f, end := w.forwards(natsbridge.WithDrainTimeout(time.Millisecond))
	for f.Metrics().Pending < 100 && w.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	end()
	if m := f.Metrics(); m.Returned != 100 || m.Handled != 0 {
		t.Errorf("%+v", m)
	}
	r := w.receives()
	w.forwards()
	got := slices.Clone(r.await(100)) // JetStream sends them in another order: the first one last.
	slices.SortFunc(got, func(a, b string) int { return number(a) - number(b) })
	wantNumbers(t, got, 100)
	w.wantAcked(c)
}

// TestForwarder_RefusedMessage_BecomesDeadLetter after its tries; the others are handled.
func TestForwarder_RefusedMessage_BecomesDeadLetter(t *testing.T) {
	cfg := streamConfig()
	cfg.Subjects = append(cfg.Subjects, "dead.>")
	w := newWorld(t, 1, cfg, nil)
	c := w.consumer()
	w.publishes(0, 50)
	if _, err := w.js.Publish(w.ctx, "events.large", []byte(strings.Repeat("x", 2000))); err != nil {
		t.Fatal(err)
	}
	w.publishes(50, 100)
	r := w.receives(udsipc.WithMaxMessageSize(1000))
	f, _ := w.forwards(natsbridge.WithDeadLetters("dead.events"), natsbridge.WithMaxDeliveries(2))
	wantNumbers(t, r.await(100), 100)
	w.wantAcked(c)
	dead, err := w.stream.GetLastMsgForSubject(w.ctx, "dead.>")
	if err != nil {
		t.Fatal(err)
	}
	if len(dead.Data) != 2000 || dead.Header.Get("Udsipc-Subject") != "events.large" ||
		!strings.Contains(dead.Header.Get("Udsipc-Cause"), "limit") {
		t.Errorf("%d bytes, %v", len(dead.Data), dead.Header)
	}
	if m := f.Metrics(); m.Handled != 100 || m.DeadLetters != 1 || m.Returned != 1 {
		t.Errorf("%+v", m)
	}
	wantNumbers(t, r.await(100), 100)
}

// TestForwarder_NoStreamForDeadLetters_IsToldOnce, not for each message, and none of them is ended.
func TestForwarder_NoStreamForDeadLetters_IsToldOnce(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	w.consumer()
	w.receives(udsipc.WithMaxMessageSize(1000))
	f, _ := w.forwards(natsbridge.WithDeadLetters("dead.events"), natsbridge.WithMaxDeliveries(1))
	for range 3 {
		if _, err := w.js.Publish(w.ctx, "events.large", make([]byte, 2000)); err != nil {
			t.Fatal(err)
		}
	}
	for f.Metrics().Returned < 3 && w.ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	w.await("dead letter to dead.events")
	w.states.mu.Lock()
	defer w.states.mu.Unlock()
	if len(w.states.all) != 1 || f.Metrics().DeadLetters != 0 {
		t.Errorf("%q, %+v", w.states.all, f.Metrics())
	}
}

// TestForwarder_ConsumerIsMissing_Waits, and tells once.
func TestForwarder_ConsumerIsMissing_Waits(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	r := w.receives()
	w.forwards()
	t.Log(w.await("consumer not found"))
	c := w.consumer()
	w.publishes(0, 10)
	wantNumbers(t, r.await(10), 10)
	w.await("<nil>")
	w.wantAcked(c)
	if len(w.states.all) != 2 {
		t.Errorf("%q", w.states.all)
	}
}

// TestForwarder_LeaderEnds_LosesNothing: some messages may come again.
func TestForwarder_LeaderEnds_LosesNothing(t *testing.T) {
	const messages = 2000
	w := newWorld(t, 3, streamConfig(), nil)
	c := w.consumerOf(func(c *jetstream.ConsumerConfig) { c.AckWait = 2 * time.Second }) // For what the leader had sent.
	r := w.receives()
	f, _ := w.forwards()
	w.publishes(0, messages/2)
	r.await(messages / 4)
	w.StopServer(number(w.infoOf(c).Cluster.Leader[1:]) - 1)
	for n := messages / 2; n < messages; n++ {
		w.asks(func(ctx context.Context) error {
			_, err := w.js.Publish(ctx, "events.x", fmt.Append(nil, n), jetstream.WithMsgID(fmt.Sprint(n)))
			return err
		})
	}
	missing := messages
	for seen, at := make(map[string]bool), 0; missing > 0; at++ {
		if text := r.await(at + 1)[at]; !seen[text] {
			seen[text] = true
			missing--
		}
	}
	w.wantAcked(c)
	t.Logf("%+v", f.Metrics())
}
