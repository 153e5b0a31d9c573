// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a program can wait for: that its messages are delivered, and that there is a
// connection.

import (
	"context"
	"fmt"
	"time"
)

// Flush waits until everything written before it has been delivered: with WithAcknowledgements, handled
// by the reader; else taken by the kernel and, on Linux, over a Unix socket, read by the peer; over
// TCP, acknowledged by the peer's kernel. It
// returns the context's error if that ends first. If messages were dropped, too old, or set aside, or may have been
// lost, and no Flush has told of them yet, the error says how many, and matches ErrStopped if
// the Writer is being stopped, else ErrConnectionClosed. Of several at once, each message is told by one.
func (w *Writer) Flush(ctx context.Context) error {
	if err := w.queue.flush(ctx); err != nil {
		return asOpError(OpFlush, w.cfg.where, err)
	}
	w.mu.Lock()
	conn := w.current
	w.mu.Unlock()
	if conn != nil && conn.back == nil {
		target := conn.bytes.Load()
		arrived := func() bool { return conn.consumed(target) || !w.uses(conn) }
		if !poll(ctx, arrived) {
			return asOpError(OpFlush, w.cfg.where, fmt.Errorf("waiting for the peer to read: %w", context.Cause(ctx)))
		}
	}
	return asOpError(OpFlush, w.cfg.where, w.answer())
}

// answer says what became of the messages since it was last asked.
func (w *Writer) answer() error {
	w.told.Lock()
	undelivered, lost := w.untoldLocked()
	w.told.Unlock()
	if undelivered+lost == 0 {
		return nil
	}
	reason := ErrConnectionClosed
	if w.stopping.Load() {
		reason = ErrStopped
	}
	return notDelivered(reason, undelivered, lost)
}

// untoldLocked returns how many messages were not delivered, or may be lost, that neither Flush nor Stop has
// told of. It is called with told locked, and from then on they are told.
func (w *Writer) untoldLocked() (undelivered, lost uint64) {
	now := w.queue.tally()
	sum, possibly := now.undelivered+now.dropped+now.expired, w.counts.possiblyLost.Load()
	undelivered, w.told.undelivered = sum-w.told.undelivered, sum
	lost, w.told.lost = possibly-w.told.lost, possibly
	return undelivered, lost
}

func notDelivered(reason error, undelivered, lost uint64) error {
	return fmt.Errorf("%w: %d messages were not delivered, up to %d more may be lost", reason, undelivered, lost)
}

// uses says whether conn is the present connection, so that its fate is not accounted for yet.
func (w *Writer) uses(conn *outbound) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.current == conn
}

// poll asks until the answer is yes, soon at first, then every few milliseconds: the kernel has no
// event for what is asked here. It says no when ctx ends.
func poll(ctx context.Context, ask func() bool) bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for delay := 20 * time.Microsecond; !ask(); delay = min(2*delay, 5*time.Millisecond) {
		timer.Reset(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ask()
		}
	}
	return true
}

// WaitConnected waits until there is a connection. It makes an idle Writer connect. When ctx ends
// first, the error matches ErrNotConnected and the context's; after Stop it is ErrStopped.
func (w *Writer) WaitConnected(ctx context.Context) error {
	for {
		w.mu.Lock()
		state, changed := w.state, w.changed
		w.mu.Unlock()
		switch state {
		case StateConnected:
			return nil
		case StateStopped:
			return ErrStopped
		}
		w.wanted.Store(true)
		w.queue.signal()
		select {
		case <-changed:
		case <-ctx.Done():
			return asOpError(OpConnect, w.cfg.where, fmt.Errorf("%w: %w", ErrNotConnected, context.Cause(ctx)))
		}
	}
}
