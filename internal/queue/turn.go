// SPDX-License-Identifier: Apache-2.0

package queue

// This file lets producers write. A producer that may wait, and is faster than the connection,
// takes a turn: it writes what is queued itself, while that is in the cache of its processor.
// Meanwhile the send loop only looks from time to time whether producers still do so.

import (
	"context"
	"time"
)

const (
	// turnBytes is how much is written in one turn, so that the wake-ups of the reader, and of a
	// producer that waits for the socket, are shared by many messages. With 64 KiB, 1 KiB took 1.2
	// times as long.
	turnBytes = 256 << 10
	// turnFrameSize is the least mean size of frames for turns. Smaller ones cost the producer more
	// than the kernel, and another processor can write them meanwhile.
	turnFrameSize = 768
	// turnGap is the most between a batch and a message that is lent, for turns: one that comes later is
	// alone.
	turnGap = 200 * time.Microsecond
	// maxTurnBatches is how many batches a producer writes before another one has to. One that lends
	// its message writes until it is written.
	maxTurnBatches = 4
	// turnWaits is how often producers have to wait before turns are offered: the end of a burst waits
	// for the loop, so the burst must be long in comparison.
	turnWaits = 3
)

// A turns is the state of the turns of a queue.
type turns struct {
	write func(done <-chan struct{}) // Writes what is queued, and calls EndBatch after each batch. nil: no turns.

	wanted  int   // How often producers have waited since the last offer, or since the queue was empty.
	offered bool  // Producers write, and not the send loop.
	taken   bool  // One of them does.
	own     *loan // The message of that one, if it is lent.
	batches int   // Written in this turn.

	bytes, messages uint64 // Written since the last look of the send loop.
}

// A wait tells whether a producer may wait, and until when.
type wait struct {
	may  bool
	done <-chan struct{}
}

// waitOf returns the wait of a producer with this context. The methods of a context may be the
// program's, so none is called with a lock held.
func waitOf(ctx context.Context) wait {
	if ctx == context.Background() {
		return wait{may: true}
	}
	return wait{may: true, done: ctx.Done()}
}

// OnTurn sets the function that writes in the goroutine of a producer, until done is closed. It is
// called before the first message.
func (q *Queue) OnTurn(write func(done <-chan struct{})) { q.turns.write = write }

// OfferTurns has producers write, if that is of use and none of them waits: one that waits for room
// or in Flush takes no turn. If it returns true, the send loop must not write until KeepOffer returns
// false, or it has called WithdrawOffer.
func (q *Queue) OfferTurns() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.turns
	if t.wanted < turnWaits || t.write == nil || !q.pacing.active || q.closed || q.shared != nil ||
		q.producers.first != nil || q.flushers.first != nil || q.loans.lent > 0 ||
		q.queuedBytesLocked() < turnFrameSize*q.queuedLocked() {
		return false
	}
	t.wanted, t.offered, t.bytes, t.messages = 0, true, 0, 0
	return true
}

// KeepOffer reports whether producers have written since the last call, or do so now. Otherwise it
// withdraws the offer. It also does if they have been silent for a while: the call may come late.
func (q *Queue) KeepOffer() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.turns
	silent := t.bytes == 0 || time.Since(q.startTime)-q.pacing.takenAt >= 2*turnGap
	if !t.taken && silent || t.bytes < turnFrameSize*t.messages {
		t.offered = false
	}
	t.bytes, t.messages = 0, 0
	return t.offered
}

// WithdrawOffer lets the send loop write again. A producer may still write its last batch.
func (q *Queue) WithdrawOffer() {
	q.mu.Lock()
	q.turns.offered = false
	q.mu.Unlock()
}

// endOfferLocked has the send loop write again, for a producer that does not wait: it writes nothing
// itself, and must not be refused because nobody does.
func (q *Queue) endOfferLocked() {
	if q.turns.offered {
		q.Signal() // The loop withdraws the offer.
	}
}

// takesTurnLocked reports whether the calling producer must write as soon as it has unlocked the
// queue. least is how much has to be queued for that.
func (q *Queue) takesTurnLocked(least uint64) bool {
	t := &q.turns
	if !t.offered || t.taken || q.writableLocked() < least || q.closed {
		return false
	}
	t.taken, t.own, t.batches = true, nil, 0
	return true
}

// writableLocked is unsentLocked without reserved room.
func (q *Queue) writableLocked() uint64 { return q.queuedBytesLocked() - uint64(q.sentBytes) }

// writeInLineAndUnlock unlocks the queue, and takes turns while the producer p waits in line. It
// keeps its place meanwhile: otherwise it would write for the others as long as they fill the line.
func (q *Queue) writeInLineAndUnlock(waits wait, p *fifoElement[producer]) {
	for q.takesTurnLocked(1) {
		q.mu.Unlock()
		q.turns.write(waits.done)
		if len(p.value.done) > 0 {
			return
		}
		q.mu.Lock()
	}
	q.turns.wanted++
	q.mu.Unlock()
}

// EndBatch is called when a producer has written a batch, or cannot. It reports whether it goes on
// with the next one; otherwise its turn ends. If no other producer can go on either, that wakes the
// send loop.
func (q *Queue) EndBatch(failed bool) (again bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.turns
	t.batches++
	lends := t.own != nil && t.own.lent && !t.own.written
	if !failed && q.pacing.active && t.offered && !q.closed {
		if lends || q.writableLocked() >= turnBytes && t.batches < maxTurnBatches {
			return true
		}
		lends = false
	}
	t.taken, t.own = false, nil
	if failed || lends || !q.pacing.active {
		t.offered = false
		q.Signal()
	}
	return false
}
