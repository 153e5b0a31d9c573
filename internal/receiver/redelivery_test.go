// SPDX-License-Identifier: Apache-2.0

package receiver_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/ipctest"
	"github.com/udsipc/udsipc/internal/wire"
)

// TestReader_HandlerGoexit_CostsOneMessage: runtime.Goexit is what a panic is: it costs the
// message, and in a session it is offered again. The connection goes on.
func TestReader_HandlerGoexit_CostsOneMessage(t *testing.T) {
	t.Parallel()
	ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
		var mu sync.Mutex
		var calls []string
		errs := ipctest.Collect()
		r := on.StartDeliveryReader(t, func(_ context.Context, d *udsipc.Delivery) error {
			mu.Lock()
			calls = append(calls, fmt.Sprintf("%s %d %v", d.Data, d.Seq, d.Redelivered))
			mu.Unlock()
			if string(d.Data) == "exits" && !d.Redelivered {
				runtime.Goexit()
			}
			return nil
		}, udsipc.WithReaderErrorCallback(errs.Callback))
		w := on.StartWriter(t)
		for _, message := range []string{"a", "exits", "b"} {
			ipctest.MustWriteMessage(t, w, message)
		}
		if err := w.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		ipctest.Until(t, "all came", func() bool { return r.Metrics().Received == 3 })
		ipctest.Stop(t, w)
		ipctest.Stop(t, r)
		want := []string{"a 1 false", "exits 2 false", "b 3 false"}
		if on.Acknowledged {
			want = slices.Insert(want, 2, "exits 2 true")
		}
		if !slices.Equal(calls, want) {
			t.Errorf("the handler got %q, want %q", calls, want)
		}
		if err := errs.Want(t, udsipc.ErrHandlerFailed); !strings.Contains(err.Error(), "Goexit") {
			t.Error(err)
		}
		if m := r.Metrics(); m.Panics != 1 || m.HandlerErrors != 0 || m.Accepted != 1 || w.Metrics().LostConnections != 0 {
			t.Errorf("%+v", m)
		}
	})
}

// TestRedelivery_EveryFailure_BecomesDeadLetter: whatever a handler does instead of succeeding, and
// a dead letter's callback too, the message becomes a dead letter after as many attempts, counts
// once, and those behind it come.
func TestRedelivery_EveryFailure_BecomesDeadLetter(t *testing.T) {
	t.Parallel()
	fail := map[string]func() error{
		"errors": func() error { return errors.New("no") },
		"panics": func() error { panic("no") },
		"exits":  func() error { runtime.Goexit(); return nil },
	}
	for handler, failing := range fail {
		for letter, alsoFailing := range fail {
			t.Run(handler+", its dead letter "+letter, func(t *testing.T) {
				path := ipctest.SocketPath(t)
				var offers, letters, good atomic.Int64
				r := ipctest.StartReader(t, func(data []byte) error {
					if string(data) == "good" {
						good.Add(1)
						return nil
					}
					offers.Add(1)
					return failing()
				}, path, udsipc.WithMaxRedeliveries(2), udsipc.WithDeadLetter(func(d *udsipc.Delivery, err error) {
					letters.Add(1)
					if !errors.Is(err, udsipc.ErrHandlerFailed) && handler != "errors" || d.Seq != 2 || string(d.Data) != "bad" {
						t.Errorf("%d %q: %v", d.Seq, d.Data, err)
					}
					_ = alsoFailing()
				}))
				w := ipctest.StartWriter(t, path, udsipc.WithAcknowledgements())
				for _, message := range []string{"good", "bad", "good"} {
					ipctest.MustWriteMessage(t, w, message)
				}
				if err := w.Flush(t.Context()); err != nil {
					t.Error(err)
				}
				m := r.Metrics()
				if offers.Load() != 3 || letters.Load() != 1 || good.Load() != 2 ||
					m.DeadLetters != 1 || m.Redelivered != 2 || m.Acknowledged != 3 {
					t.Errorf("%d offers, %d dead letters, %d others: %+v", offers.Load(), letters.Load(), good.Load(), m)
				}
				if m.HandlerErrors+m.Panics != 1 || (m.HandlerErrors == 1) != (handler == "errors") {
					t.Errorf("%d handler errors and %d panics of one message", m.HandlerErrors, m.Panics)
				}
			})
		}
	}
}

// TestRedelivery_Reconnect_KeepsAttempts: a message that the handler has failed for is marked on
// the next connection too, and a connection that is made again and again does not keep it from
// becoming a dead letter.
func TestRedelivery_Reconnect_KeepsAttempts(t *testing.T) {
	t.Parallel()
	path := ipctest.SocketPath(t)
	offers := make(chan string, 100)
	letters := make(chan string, 10)
	const redeliveries = 4 // After pauses of 10, 40, 160 and 640 ms.
	r := ipctest.StartDeliveryReader(t, func(_ context.Context, d *udsipc.Delivery) error {
		offers <- fmt.Sprintf("%s %v", d.Data, d.Redelivered)
		return errors.New("not yet")
	}, path, udsipc.WithMaxRedeliveries(redeliveries), udsipc.WithDeadLetter(func(d *udsipc.Delivery, _ error) {
		letters <- fmt.Sprintf("%s %d", d.Data, d.Seq)
	}))
	check := func(got []string, message string) {
		t.Helper()
		want := append([]string{message + " false"}, slices.Repeat([]string{message + " true"}, redeliveries)...)
		if !slices.Equal(got, want) {
			t.Errorf("the offers were %q, want %q", got, want)
		}
	}
	id, attempt := udsipc.WriterID{1}, uint64(0)
	var got []string
	for { // A connection for each offer, unless it comes late.
		attempt++
		_, welcome := ipctest.OpenSession(t, path, wire.Hello{
			Writer: wire.WriterID(id), Epoch: attempt, FirstSeq: 1, LastSentSeq: min(attempt-1, 1),
		}, "a")
		if welcome.Handled == 1 {
			break
		}
		if got = append(got, ipctest.Await(t, "an offer", offers)); attempt > redeliveries {
			break
		}
	}
	if letter := ipctest.Await(t, "a dead letter", letters); letter != "a 1" {
		t.Errorf("the dead letter is %s", letter)
	}
	for len(offers) > 0 {
		got = append(got, <-offers)
	}
	check(got, "a")
	if m := r.Metrics(); m.HandlerErrors+m.Panics > m.Received || m.DeadLetters != 1 {
		t.Errorf("%+v", m)
	}

	// What the writer has set aside meanwhile does not leave its attempts to the next message.
	ipctest.OpenSession(t, path,
		wire.Hello{Writer: wire.WriterID(id), Epoch: attempt + 1, FirstSeq: 2, LastSentSeq: 1},
		"b")
	for range 3 {
		ipctest.Await(t, "an offer", offers)
	}
	ipctest.OpenSession(t, path,
		wire.Hello{Writer: wire.WriterID(id), Epoch: attempt + 2, FirstSeq: 3, LastSentSeq: 2},
		"c")
	for got = nil; len(got) < redeliveries+1; {
		if offer := ipctest.Await(t, "an offer", offers); strings.HasPrefix(offer, "c") {
			got = append(got, offer)
		}
	}
	check(got, "c")
}

// TestDelivery_HandlerChanges_AreReset: what a handler writes into its Delivery is gone with the next call.
func TestDelivery_HandlerChanges_AreReset(t *testing.T) {
	t.Parallel()
	ipctest.OverModes(t, func(t *testing.T, on *ipctest.Route) {
		var mu sync.Mutex
		var got []udsipc.Delivery
		r := on.StartDeliveryReader(t, func(_ context.Context, d *udsipc.Delivery) error {
			mu.Lock()
			got = append(got, *d)
			failing := len(got) == 1
			mu.Unlock()
			*d = udsipc.Delivery{
				Data: []byte("x"), Seq: 1000, Writer: udsipc.WriterID{9}, Peer: udsipc.Peer{ID: 99},
				Redelivered: true,
			}
			if failing {
				return errors.New("again")
			}
			return nil
		})
		w := on.StartWriter(t)
		ipctest.MustWriteMessage(t, w, "a")
		ipctest.MustWriteMessage(t, w, "b")
		if err := w.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		ipctest.Until(t, "both came", func() bool { return r.Metrics().Received == 2 })
		ipctest.Stop(t, w)
		ipctest.Stop(t, r)
		seqs := []uint64{1, 2}
		if on.Acknowledged {
			seqs = []uint64{1, 1, 2}
		}
		if len(got) != len(seqs) {
			t.Fatalf("%d calls, want %d", len(got), len(seqs))
		}
		for i, d := range got {
			again := on.Acknowledged && i == 1
			if d.Seq != seqs[i] || len(d.Data) != 1 || d.Peer.ID != got[0].Peer.ID ||
				d.Writer != got[0].Writer || d.Redelivered != again || d.Peer.ID == 99 {
				t.Errorf("call %d got %+v", i, d)
			}
		}
	})
}
