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
)

// A turns is the state of the turns of a queue.
type turns struct {
	write func(ctx context.Context) // Writes what is queued, and calls EndBatch after each batch. nil: no turns.

	wanted  bool  // A producer has waited for the connection since the last offer.
	offered bool  // Producers write, and not the send loop.
	taken   bool  // One of them does.
	own     *loan // The message of that one, if it is lent.
	batches int   // Written in this turn.

	bytes, messages uint64 // Written since the last look of the send loop.
}

// OnTurn sets the function that writes in the goroutine of a producer, until its context ends. It is
// called before the first message.
func (q *Queue) OnTurn(write func(ctx context.Context)) { q.turns.write = write }

// OfferTurns has producers write, if that is of use and none of them waits: one that waits takes no
// turn. If it returns true, the send loop must not write until KeepOffer returns false, or it has
// called WithdrawOffer.
func (q *Queue) OfferTurns() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.turns
	if !t.wanted || t.write == nil || !q.pacing.active || q.closed || q.shared != nil ||
		q.producers.first != nil || q.loans.lent > 0 ||
		q.queuedBytesLocked() < turnFrameSize*q.queuedLocked() {
		return false
	}
	t.wanted, t.offered, t.bytes, t.messages = false, true, 0, 0
	return true
}

// KeepOffer reports whether producers have written since the last call, or do so now. Otherwise it
// withdraws the offer.
func (q *Queue) KeepOffer() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	t := &q.turns
	if !t.taken && t.bytes == 0 || t.bytes < turnFrameSize*t.messages {
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

// takesTurnLocked reports whether the calling producer must write as soon as it has unlocked the
// queue. least is how much has to be queued for that.
func (q *Queue) takesTurnLocked(least uint64) bool {
	t := &q.turns
	if !t.offered || t.taken || q.unsentLocked() < least || q.closed {
		return false
	}
	t.taken, t.own, t.batches = true, nil, 0
	return true
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
		if lends || q.unsentLocked() >= turnBytes && t.batches < maxTurnBatches {
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
