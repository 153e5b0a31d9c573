// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"context"
	"errors"
	"log"
	"log/slog"
	"slices"
	"testing"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/sloghandler"
	"github.com/udsipc/udsipc/spool"
)

// TestWriter_Restart_GoesOn: messages of several processes keep one identity and growing numbers.
func TestWriter_Restart_GoesOn(t *testing.T) {
	p := newPlace(t)
	w := p.open()
	p.write(w, 0, 10)
	if err := w.Stop(limit(t)); !errors.Is(err, spool.ErrLeft) || !errors.Is(err, udsipc.ErrNotStarted) {
		t.Fatalf("Stop of a Writer that was not started: %v", err)
	}
	r := p.read()
	w = p.start()
	p.write(w, 10, 20)
	p.flush(w)
	p.write(w, 20, 30)
	p.stop(w)
	w = p.start()
	p.write(w, 30, 40)
	p.stop(w)
	if got := r.all(); !slices.Equal(got, numbers(0, 40)) {
		t.Errorf("the reader got %v", got)
	}
	for i, seq := range r.seqs {
		if seq != uint64(i)+1 || r.ids[i] != r.ids[0] {
			t.Fatalf("message %d has number %d of writer %v, want writer %v", i, seq, r.ids[i], r.ids[0])
		}
	}
	if r.again > 0 {
		t.Errorf("%d messages came again", r.again)
	}
}

// TestWriter_ForgetfulReader_GetsRedelivered: what an earlier process has sent comes marked to a reader that knows
// nothing of it, and what is new does not.
func TestWriter_ForgetfulReader_GetsRedelivered(t *testing.T) {
	p := newPlace(t)
	handled := make(chan struct{}, 1)
	first, err := udsipc.NewDeliveryReader(func(ctx context.Context, _ *udsipc.Delivery) error {
		handled <- struct{}{}
		<-ctx.Done() // It has done its work, and does not come to say so.
		return ctx.Err()
	}, p.address)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	w := p.start()
	p.write(w, 0, 5)
	<-handled
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Stop(ended); !errors.Is(err, spool.ErrLeft) {
		t.Fatalf("Stop: %v", err)
	}
	_ = first.Stop(ended)
	r := p.read()
	w = p.start()
	p.flush(w)
	marked := r.redone
	p.write(w, 5, 10)
	p.stop(w)
	if got := r.all(); !slices.Equal(got, numbers(0, 10)) || marked != 5 || r.redone != 5 {
		t.Errorf("the reader got %v, %d marked, then %d, want 5", got, marked, r.redone)
	}
}

// TestWriter_StopWhileReaderIsAway_KeepsMessages in the spool, and says how many.
func TestWriter_StopWhileReaderIsAway_KeepsMessages(t *testing.T) {
	p := newPlace(t)
	ctx, cancel := context.WithCancel(limit(t))
	w := p.start(spool.WithWriter(udsipc.WithWriterErrorCallback(func(err error, _ string) {
		if errors.Is(err, udsipc.ErrNoConsumer) {
			cancel()
		}
	})))
	p.write(w, 0, 5)
	err := w.Stop(ctx)
	if !errors.Is(err, spool.ErrLeft) || !errors.Is(err, context.Canceled) || !errors.Is(err, udsipc.ErrNotConnected) {
		t.Errorf("Stop: %v", err)
	}
	if err := w.WriteMessage(nil); err != udsipc.ErrStopped {
		t.Errorf("a write after Stop: %v", err)
	}
	if err := w.Start(); err != udsipc.ErrStopped {
		t.Errorf("Start after Stop: %v", err)
	}
	r := p.read()
	p.stop(p.start())
	if got := r.all(); !slices.Equal(got, numbers(0, 5)) {
		t.Errorf("the reader got %v", got)
	}
}

// TestWriter_Lines_AreMessages, and so are the records of a logger.
func TestWriter_Lines_AreMessages(t *testing.T) {
	p := newPlace(t)
	r := p.read()
	w := p.start()
	log.New(w.Lines(), "", 0).Print("a line")
	noTime := func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}
	slog.New(sloghandler.NewText(w, &slog.HandlerOptions{ReplaceAttr: noTime})).Info("a record")
	p.stop(w)
	if got, want := r.all(), []string{"a line", `level=INFO msg="a record"`}; !slices.Equal(got, want) {
		t.Errorf("the reader got %q, want %q", got, want)
	}
}
