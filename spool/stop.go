// SPDX-License-Identifier: Apache-2.0

package spool

// This file has the waits: until messages are on the disk (Sync), handled (Flush), and the end (Stop).

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/journal"
	"github.com/udsipc/udsipc/internal/seam"
)

// Sync blocks until every message for which a write has returned is on the disk or handled, or ctx
// ends. An error of the disk is returned until the messages are written to another file. After Stop
// it is udsipc.ErrStopped if they are not synced.
func (w *Writer) Sync(ctx context.Context) error {
	if ctx.Err() != nil {
		return opError(udsipc.OpSpool, w.dir, seam.EndOf(ctx))
	}
	call := w.joinSync()
	select {
	case <-call.done:
		if errors.Is(call.err, journal.ErrClosed) {
			return udsipc.ErrStopped
		}
		return opError(udsipc.OpSpool, w.dir, call.err)
	case <-ctx.Done():
		return opError(udsipc.OpSpool, w.dir, seam.EndOf(ctx))
	}
}

// A syncCall is a sync for all calls of Sync before it begins.
type syncCall struct {
	done chan struct{}
	err  error // Valid when done is closed.
}

// joinSync returns the next sync. Nothing interrupts a sync, so one runs and one waits, however many calls a disk that
// hangs makes give up.
func (w *Writer) joinSync() *syncCall {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.nextSync == nil {
		call := &syncCall{done: make(chan struct{})}
		w.nextSync = call
		go w.runSync(call) // Ends by itself.
	}
	return w.nextSync
}

func (w *Writer) runSync(call *syncCall) {
	defer close(call.done)
	w.syncing.Lock()
	defer w.syncing.Unlock()
	w.mu.Lock()
	w.nextSync = nil
	w.mu.Unlock()
	call.err = w.log.Sync()
}

// Flush blocks until every message for which a write has returned is handled, or ctx ends. The error matches
// ErrNotDelivered if messages were dropped, have expired, were damaged or were refused by the reader since the last
// completed Flush; it has their numbers. After Stop it matches udsipc.ErrStopped if messages are left.
func (w *Writer) Flush(ctx context.Context) error {
	return opError(udsipc.OpFlush, w.dir, w.flush(ctx))
}

func (w *Writer) flush(ctx context.Context) error {
	for target := w.log.End(); ; {
		changed := w.log.Changed()
		left := w.log.Left()
		if left >= target {
			return w.lost(w.log.Counts())
		}
		select {
		case <-changed:
		case <-w.closed:
			if left = w.log.Left(); left < target {
				return fmt.Errorf("%w: %w: %d", udsipc.ErrStopped, ErrLeft, target-left)
			}
		case <-ctx.Done():
			return fmt.Errorf("%d messages are not handled: %w", target-left, w.whyNot(ctx))
		}
	}
}

// whyNot is the error of a wait for the reader that ctx has ended.
func (w *Writer) whyNot(ctx context.Context) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.started {
		return fmt.Errorf("%w: %w", udsipc.ErrNotStarted, seam.EndOf(ctx))
	}
	return w.delivery.endOf(ctx)
}

// undelivered returns how many messages have left the log and nobody has handled.
func undelivered(c journal.Counts) uint64 { return c.Undelivered + c.Dropped + c.Expired + c.Damaged }

// lost returns an error if messages were not delivered, and no Flush has said so.
func (w *Writer) lost(c journal.Counts) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	lost := undelivered(c) - min(w.flushed, undelivered(c))
	w.flushed += lost
	if lost == 0 {
		return nil
	}
	return fmt.Errorf("%w: %d since the last Flush (in all %d dropped, %d expired, %d damaged, %d refused by the reader)",
		ErrNotDelivered, lost, c.Dropped, c.Expired, c.Damaged, c.Undelivered)
}

// Stop rejects new messages, sends what is in the spool, reconnecting as often as necessary, and waits
// until it is handled or ctx ends. What is left stays on the disk for the next start: then the error
// matches ErrLeft, and that of ctx. Then Stop syncs, unless WithSync is negative, and unlocks the
// directory; it waits for the disk also after ctx has ended.
//
// Stop may be called before Start, again, and concurrently. The first context that ends applies to all
// calls. Within a callback of the Writer, Stop returns only when ctx ends.
func (w *Writer) Stop(ctx context.Context) error {
	return opError(udsipc.OpStop, w.dir, errors.Join(w.stop(ctx, nil)))
}

// Close is a Stop that does not wait for a reader that is away: it sends what it can until an attempt to
// connect fails, for udsipc.WithCloseTimeout (WithWriter) at most, 5 s by default. Messages that stay in
// the spool are no error; Metrics has their number. It implements io.Closer.
func (w *Writer) Close() error {
	ctx, cancel := w.delivery.face.CloseContext()
	defer cancel()
	err, _ := w.stop(ctx, time.Tick(awayCheck))
	return opError(udsipc.OpStop, w.dir, err)
}

// awayCheck is how often Close looks whether the reader is away.
const awayCheck = 20 * time.Millisecond

// stop is Stop. With ticks it also ends when the reader is away. left is an error if messages stay.
func (w *Writer) stop(ctx context.Context, ticks <-chan time.Time) (err, left error) {
	started := w.beginStop()
	defer w.delivery.face.WatchStop(ctx, func() string {
		return fmt.Sprintf("%d messages are in the spool %s", w.delivery.waiting(), w.dir)
	})()
	why := error(udsipc.ErrNotStarted)
	if started {
		why = udsipc.ErrStopped // Another call has ended the delivery.
	}
	for {
		select {
		case <-w.closed:
			return w.closing, w.left(why)
		case <-ticks:
			away := w.delivery.away()
			if away == nil {
				continue
			}
			why = away
		case <-ctx.Done():
			why = w.whyNot(ctx)
		}
		w.delivery.force(why)
		return w.awaitClosed(why), w.left(why)
	}
}

// callbackGrace is how long a forced stop waits for a callback, at least. The stop may be called within it.
const callbackGrace = 200 * time.Millisecond

// awaitClosed waits until the directory is free, or a callback does not return.
func (w *Writer) awaitClosed(why error) error {
	for {
		before := w.delivery.callbacks.Load()
		select {
		case <-w.closed:
			return w.closing
		case <-time.After(callbackGrace):
			if before%2 == 1 && before == w.delivery.callbacks.Load() {
				return fmt.Errorf("a callback has not returned, the directory may be in use until it does: %w", why)
			}
		}
	}
}

// beginStop ends the writes and tells the delivery. It returns whether the Writer was started.
func (w *Writer) beginStop() (started bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return w.started
	}
	w.stopped = true
	close(w.stopping)
	go w.close() // Ends with the delivery.
	return w.started
}

// close frees the directory when the delivery has ended.
func (w *Writer) close() {
	defer close(w.closed)
	w.log.Seal()
	close(w.delivery.drain)
	if w.started {
		<-w.delivery.done
	}
	err := w.log.Close()
	w.closing = errors.Join(err, w.disk.Close())
	w.delivery.reportNotes()
	if n := w.delivery.waiting(); n > 0 {
		why := context.Cause(w.delivery.ctx)
		if why == nil {
			why = udsipc.ErrNotStarted
		}
		w.delivery.face.LogKept(n, w.dir, why)
	}
	defer w.delivery.callback()()
	w.delivery.face.End(w.delivery.ctx)
}

// left returns an error if messages stay.
func (w *Writer) left(why error) error {
	if n := w.delivery.waiting(); n > 0 {
		return fmt.Errorf("%w: %d: %w", ErrLeft, n, why)
	}
	return nil
}
