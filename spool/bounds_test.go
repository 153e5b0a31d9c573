// SPDX-License-Identifier: Apache-2.0

package spool_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/spool"
)

// small are the options of a spool of 64 KiB.
func small(policy udsipc.OverflowPolicy) []spool.Option {
	return []spool.Option{spool.WithMaxBytes(64 << 10), spool.WithMinFree(0), spool.WithOverflow(policy)}
}

// TestWriter_Full_Refuses: a full spool takes nothing, and takes messages again when there is room.
func TestWriter_Full_Refuses(t *testing.T) {
	p := newPlace(t)
	w := p.start(small(udsipc.OverflowRefuse)...)
	accepted := fill(t, w)
	if err := w.WriteMessages([][]byte{{1}, make([]byte, 1000)}); !errors.Is(err, spool.ErrSpoolFull) {
		t.Fatalf("a batch: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	err := w.WriteMessageContext(ctx, make([]byte, 1000))
	if !errors.Is(err, spool.ErrSpoolFull) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write that waits: %v", err)
	}
	if m := w.Metrics(); m.Accepted != accepted || m.Queued != accepted || m.Refused < 3 || m.QueuedBytes > 64<<10 {
		t.Errorf("accepted %d: %+v", accepted, m)
	}
	r := p.read()
	p.flush(w)
	for range 60 { // As much as fits into the empty spool.
		if err := w.WriteMessage(make([]byte, 1000)); err != nil {
			t.Fatalf("after a flush: %v", err)
		}
		p.flush(w)
	}
	p.stop(w)
	if got := len(r.all()); got != int(accepted)+60 {
		t.Errorf("the reader got %d messages, want %d", got, accepted+60)
	}
}

// fill writes messages of 1,000 bytes until the spool is full. It returns their number.
func fill(t *testing.T, w *spool.Writer) (accepted uint64) {
	t.Helper()
	for {
		err := w.WriteMessage(make([]byte, 1000))
		if errors.Is(err, spool.ErrSpoolFull) {
			return accepted
		}
		if err != nil || accepted > 64 {
			t.Fatalf("message %d of a spool of 64 KiB: %v", accepted, err)
		}
		accepted++
	}
}

// TestWriter_LargeMessage_FitsIntoEmptySpool: what was handled is in the way of nothing.
func TestWriter_LargeMessage_FitsIntoEmptySpool(t *testing.T) {
	p := newPlace(t)
	w := p.start(small(udsipc.OverflowRefuse)...)
	r := p.read()
	for range 20 {
		if err := w.WriteMessage(make([]byte, 10_000)); err != nil {
			t.Fatal(err)
		}
		p.flush(w)
		if err := w.WriteMessage(make([]byte, 65_000)); err != nil {
			t.Fatalf("a message as large as the spool: %v", err)
		}
		p.flush(w)
	}
	if err := w.WriteMessage(make([]byte, 65_536)); !errors.Is(err, udsipc.ErrMessageTooLarge) {
		t.Errorf("a message larger than the spool: %v", err)
	}
	p.stop(w)
	if got := len(r.all()); got != 40 {
		t.Errorf("the reader got %d messages, want 40", got)
	}
}

// TestWriter_Block_Waits until the reader has made room, or Stop is called.
func TestWriter_Block_Waits(t *testing.T) {
	p := newPlace(t)
	w := p.start(small(udsipc.OverflowBlock)...)
	written := make(chan error, 1)
	go func() {
		for i := range 200 {
			if err := w.WriteMessage(bytes.Repeat([]byte{byte(i)}, 1000)); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for w.Metrics().QueuedBytes < 63<<10 {
		time.Sleep(time.Millisecond)
	}
	r := p.read()
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	p.flush(w)
	for i, text := range r.all() {
		if text[0] != byte(i) {
			t.Fatalf("message %d is %d", i, text[0])
		}
	}
	r.end()
	go func() {
		var err error
		for err == nil {
			err = w.WriteMessage(make([]byte, 1000))
		}
		written <- err
	}()
	for w.Metrics().QueuedBytes < 63<<10 {
		time.Sleep(time.Millisecond)
	}
	if refused := w.Metrics().Refused; refused > 0 {
		t.Errorf("%d messages count as refused, but all that were written were accepted", refused)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Stop(ctx); !errors.Is(err, spool.ErrLeft) {
		t.Errorf("Stop: %v", err)
	}
	if err := <-written; err != udsipc.ErrStopped {
		t.Errorf("a write that waits while Stop is called: %v", err)
	}
}

// TestWriter_DropOldest_KeepsNewest: whole segments go, are counted, and are told by Flush.
func TestWriter_DropOldest_KeepsNewest(t *testing.T) {
	p := newPlace(t)
	w := p.start(small(udsipc.OverflowDropOldest)...)
	const n = 300
	for i := range n {
		if err := w.WriteMessage(append(make([]byte, 1000), byte(i), byte(i>>8))); err != nil {
			t.Fatal(err)
		}
	}
	m := w.Metrics()
	if m.Accepted != n || m.Dropped == 0 || m.Dropped+m.Queued != n || m.Queued < 30 {
		t.Fatalf("%+v", m)
	}
	r := p.read()
	if err := w.Flush(limit(t)); !errors.Is(err, spool.ErrNotDelivered) {
		t.Errorf("Flush after drops: %v", err)
	}
	p.flush(w)
	p.stop(w)
	got := r.all()
	if uint64(len(got)) != m.Queued {
		t.Errorf("the reader got %d messages, want %d", len(got), m.Queued)
	}
	for i, text := range got {
		if number := int(text[1000]) + int(text[1001])<<8; number != n-len(got)+i {
			t.Fatalf("message %d of %d has number %d", i, len(got), number)
		}
	}
	if !slices.IsSorted(r.seqs) || r.seqs[len(r.seqs)-1] != n {
		t.Errorf("sequence numbers %v", r.seqs)
	}
}

// TestWriter_OverReadersLimit_IsSetAside: one message does not hold up the others, and is handed back.
func TestWriter_OverReadersLimit_IsSetAside(t *testing.T) {
	p := newPlace(t)
	returned := make(chan int, 10)
	w := p.start(spool.WithWriter(udsipc.WithUndelivered(func(data []byte) { returned <- len(data) })))
	p.write(w, 0, 3)
	if err := w.WriteMessages([][]byte{[]byte("3"), make([]byte, 2000), []byte("4")}); err != nil {
		t.Fatal(err)
	}
	p.write(w, 5, 8)
	r := p.read(udsipc.WithMaxMessageSize(1000))
	if err := w.Flush(limit(t)); !errors.Is(err, spool.ErrNotDelivered) {
		t.Errorf("Flush: %v", err)
	}
	if size := <-returned; size != 2000 {
		t.Errorf("a message of %d bytes was handed back", size)
	}
	if err := w.WriteMessage(make([]byte, 1001)); !errors.Is(err, udsipc.ErrMessageTooLarge) {
		t.Errorf("a message over the reader's limit: %v", err)
	}
	p.stop(w)
	if m := w.Metrics(); m.Undelivered != 1 || m.Sent != 8 || m.Queued != 0 || m.TooLarge != 1 {
		t.Errorf("%+v", m)
	}
	if got, want := r.all(), []string{"0", "1", "2", "3", "4", "5", "6", "7"}; !slices.Equal(got, want) {
		t.Errorf("the reader got %v", got)
	}
	if want := []uint64{1, 2, 3, 4, 6, 7, 8, 9}; !slices.Equal(r.seqs, want) {
		t.Errorf("numbers %v, want %v", r.seqs, want)
	}
}
