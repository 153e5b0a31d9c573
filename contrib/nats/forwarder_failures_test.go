// SPDX-License-Identifier: Apache-2.0

package natsbridge_test

// Messages that the local handler fails for.

import (
	"context"
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/udsipc/udsipc"
	natsbridge "github.com/udsipc/udsipc/contrib/nats"
	"github.com/udsipc/udsipc/contrib/nats/failures"
)

// A worker is a Reader whose handler fails for some messages, and which tells the bridge.
type worker struct {
	*world
	mu      sync.Mutex
	handled []string
	fails   map[string]int // How often it fails.
}

func (w *worker) handle(_ context.Context, batch []udsipc.Delivery) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, d := range batch {
		if w.fails[string(d.Data)] > 0 {
			if len(batch) == 1 {
				w.fails[string(d.Data)]--
			}
			return errors.New("no\nway")
		}
	}
	for _, d := range batch {
		w.handled = append(w.handled, string(d.Data))
	}
	return nil
}

// works starts a worker and returns it.
func (w *world) works(batches bool, fails map[string]int) *worker {
	w.Helper()
	one := &worker{world: w, fails: fails}
	reporter, err := failures.NewReporter(w.address())
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = reporter.Close() })
	opts := []udsipc.ReaderOption{udsipc.WithMaxRedeliveries(0), udsipc.WithDeadLetter(reporter.Report)}
	path := filepath.Join(w.dir, "local")
	var r *udsipc.Reader
	if batches {
		r, err = udsipc.NewBatchReader(one.handle, path, opts...)
	} else {
		r, err = udsipc.NewDeliveryReader(func(ctx context.Context, d *udsipc.Delivery) error {
			return one.handle(ctx, []udsipc.Delivery{*d})
		}, path, opts...)
	}
	if err != nil {
		w.Fatal(err)
	}
	if err := r.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { r.Close() })
	return one
}

// hearsFailures starts the Reader that a Reporter reports to.
func (w *world) hearsFailures(f *natsbridge.Forwarder) {
	w.Helper()
	r, err := udsipc.NewDeliveryReader(f.HandleFailure, w.address())
	if err != nil {
		w.Fatal(err)
	}
	if err := r.Start(); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { r.Close() })
}

// TestForwarder_HandlerFails_ComesAgainThenIsDeadLetter: JetStream sends the message again, and after the last
// time it is ended with the error of the handler, and kept. A Publisher has stored the messages: their headers
// would have JetStream refuse them again.
func TestForwarder_HandlerFails_ComesAgainThenIsDeadLetter(t *testing.T) {
	for name, batches := range map[string]bool{"messages": false, "batches": true} {
		t.Run(name, func(t *testing.T) {
			cfg := streamConfig()
			cfg.Subjects = append(cfg.Subjects, "dead.>")
			w := newWorld(t, 1, cfg, nil)
			c := w.consumer()
			terminated, err := w.js.Conn().SubscribeSync("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.EVENTS.local")
			if err != nil {
				t.Fatal(err)
			}
			w.handles(w.publisher(w.js), deliveries(1, 0, 10, false))
			one := w.works(batches, map[string]int{"5": 1000, "7": 1})
			f, _ := w.forwards(natsbridge.WithDeadLetters("dead.events"), natsbridge.WithMaxDeliveries(2))
			w.hearsFailures(f)
			w.wantAcked(c)
			one.mu.Lock()
			handled := slices.Clone(one.handled)
			one.mu.Unlock()
			if got := strings.Join(handled, " "); got != "0 1 2 3 4 6 8 9 7" {
				t.Errorf("handled: %s", got)
			}
			if m := f.Metrics(); m.Handled != 9 || m.Failed != 3 || m.Returned != 2 || m.DeadLetters != 1 || m.Received != 12 {
				t.Errorf("%+v", m)
			}
			w.wantDeadLetter()
			m, err := terminated.NextMsgWithContext(w.ctx)
			if err != nil {
				t.Fatal(err)
			}
			var advisory struct {
				StreamSeq uint64 `json:"stream_seq"`
				Reason    string
			}
			if err := json.Unmarshal(m.Data, &advisory); err != nil || advisory.StreamSeq != 6 ||
				!strings.HasSuffix(advisory.Reason, "has failed: no way") {
				t.Errorf("%+v, %v", advisory, err)
			}
		})
	}
}

// wantDeadLetter checks the dead letter of the message "5".
func (w *world) wantDeadLetter() {
	w.Helper()
	dead, err := w.stream.GetLastMsgForSubject(w.ctx, "dead.>")
	if err != nil {
		w.Fatal(err)
	}
	for name, want := range map[string]string{
		"Udsipc-Subject": "events.7-01000000000000000000000000000000", "Udsipc-Stream": "EVENTS", "Udsipc-Sequence": "6",
		"Udsipc-Consumer": "local", "Udsipc-Deliveries": "2", nats.MsgIdHdr: "EVENTS.local.6", "Nats-Batch-Id": "",
		"Udsipc-Cause": "natsbridge: the handler of the local reader has failed: no way",
	} {
		if got := dead.Header.Get(name); got != want {
			w.Errorf("%s is %q: want %q", name, got, want)
		}
	}
	if string(dead.Data) != "5" {
		w.Errorf("%q: want 5", dead.Data)
	}
}

// TestForwarder_NoReporter_CountsAsHandled: the message is a dead letter of the local Reader alone.
func TestForwarder_NoReporter_CountsAsHandled(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	c := w.consumer()
	w.publishes(0, 3)
	r, err := udsipc.NewReader(func([]byte) error { return errors.New("no") }, filepath.Join(w.dir, "local"),
		udsipc.WithMaxRedeliveries(0))
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	f, _ := w.forwards()
	w.wantAcked(c)
	if m := f.Metrics(); m.Handled != 3 || m.Failed != 0 {
		t.Errorf("%+v", m)
	}
}

// TestForwarder_HandleFailure_OtherMessages changes nothing.
func TestForwarder_HandleFailure_OtherMessages(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	f, err := natsbridge.NewForwarder(w.js, "EVENTS", "local", w.address())
	if err != nil {
		t.Fatal(err)
	}
	for data, ok := range map[string]bool{
		strings.Repeat("w", 16) + "\x00\x00\x00\x00\x00\x00\x00\x01no": true, strings.Repeat("w", 23): false, "": false,
	} {
		if err := f.HandleFailure(w.ctx, &udsipc.Delivery{Data: []byte(data)}); (err == nil) != ok {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// TestForwarder_OneInFlight_KeepsOrder: also of a message that its handler fails for.
func TestForwarder_OneInFlight_KeepsOrder(t *testing.T) {
	w := newWorld(t, 1, streamConfig(), nil)
	c := w.consumerOf(func(c *jetstream.ConsumerConfig) { c.MaxAckPending = 1 })
	w.publishes(0, 5)
	one := w.works(false, map[string]int{"2": 1})
	f, _ := w.forwards()
	w.hearsFailures(f)
	w.wantAcked(c)
	wantNumbers(t, one.handled, 5)
}
