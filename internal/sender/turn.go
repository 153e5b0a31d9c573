// SPDX-License-Identifier: Apache-2.0

package sender

// This file lets producers write to the connection of the loop: lone.go while the loop waits for
// work, and this file while producers are faster than the connection. Then they write full batches,
// and the loop only looks whether they still do, or a rest stays.

import (
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
)

const (
	// turnTick is how often the loop looks whether producers write. So the end of a burst waits twice
	// as long at most; in a process that is idle otherwise 1.4 ms, because timers have a resolution of
	// 1 ms there (runtime, netpoll).
	turnTick = 200 * time.Microsecond
	// turnWait is how long a write of a producer waits for the socket at most. After that the loop
	// writes.
	turnWait = 5 * time.Millisecond
)

// A turn is the right to write to the connection.
type turn struct {
	tick *time.Timer // For the loop's goroutine; nil before the first offer.

	mu     sync.Mutex     // Held by the goroutine that writes: the loop's, unless it waits or has offered turns.
	conn   *transport.Out // nil if producers must not write: also after a turn has failed.
	failed error          // What ended a producer's turn, and ends the connection.
}

// admit lets producers write to o while the loop does not. The caller has the turn.
func (t *turn) admit(o *transport.Out) {
	t.failed = nil
	if o.CanTryWrite() {
		t.conn = o
	}
}

// offerTurns has producers write as long as they are faster than the connection. It returns when the
// loop must write again, with the error that ends the connection, or nil. The caller has the turn.
func (l *Loop) offerTurns() error {
	if l.turn.conn == nil {
		return nil
	}
	l.turn.mu.Unlock()
	if l.queue.OfferTurns() {
		l.watchTurns()
	}
	l.turn.mu.Lock()
	return l.turnFailure()
}

// turnFailure returns the error of a turn that ends the connection, or nil. The loop must ask before
// it uses the connection again: the kernel reports an error once. The caller has the turn.
func (l *Loop) turnFailure() error {
	if l.turn.failed != nil && l.life.Forced() {
		return errFinished
	}
	return l.turn.failed
}

// watchTurns returns when no producer has written for a while, or there is something else to do.
func (l *Loop) watchTurns() {
	timer := l.turn.tick
	if timer == nil {
		timer = time.NewTimer(turnTick)
		l.turn.tick = timer
	} else {
		timer.Reset(turnTick)
	}
	defer timer.Stop()
	for {
		select {
		case <-l.queue.Ready(): // Set by Flush, Stop, ReadLoop, and a turn that could not write everything.
			l.queue.WithdrawOffer()
			return
		case <-timer.C:
		}
		if !l.queue.KeepOffer() {
			return
		}
		timer.Reset(turnTick)
	}
}

// takeTurn writes what is queued, in the goroutine of a producer that may wait until done is closed.
func (l *Loop) takeTurn(done <-chan struct{}) {
	if !l.turn.mu.TryLock() { // The loop writes already.
		l.queue.EndBatch(true)
		return
	}
	defer l.turn.mu.Unlock()
	for ok := true; ok; {
		ok = l.writeInTurn()
		select {
		case <-done:
			ok = false
		default:
		}
		if !l.queue.EndBatch(!ok) {
			return
		}
	}
}

// writeInTurn writes a batch. It reports whether the connection has taken it whole and within
// turnWait. The caller has the turn.
func (l *Loop) writeInTurn() (ok bool) {
	o := l.turn.conn
	if o == nil || o.IsWriteStopped() {
		return false
	}
	bufs := l.queue.NextBatch(l.bufs[:0], transport.BatchSize)
	if len(bufs) == 0 {
		return false
	}
	n, err := o.WriteWithin(bufs, turnWait)
	if invalid := l.noteWritten(o, n); invalid != nil {
		err = invalid
	} else if transport.IsTimeout(err) && !o.IsWriteStopped() {
		return o.TakeInterrupt()
	}
	if err != nil {
		l.turn.failed, l.turn.conn = err, nil
	}
	return err == nil
}
