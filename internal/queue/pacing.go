// SPDX-License-Identifier: Apache-2.0

package queue

// This file keeps the queue small while the connection takes bytes quickly: what is in the
// processor's cache when it is written costs a third less. Producers that may wait do so at
// pacedBytes instead of the limit of the queue. As soon as the connection is slow or gone, only the
// limit of the queue applies.

import "time"

const (
	// pacedBytes is the most that the queue holds while producers are paced. With the socket's buffer
	// and the reader's it stays in a second-level cache of 2 MiB. With 4 MiB, 128 B took 1.1 times as
	// long and 16 KiB 1.1 to 1.4 times; with 512 KiB, 128 B and 1 KiB 1.2 times: more wake-ups.
	pacedBytes = 1 << 20
	// resumeBytes is where producers that wait are served again: one wake-up for many messages.
	resumeBytes = pacedBytes / 4 * 3
	// unsentBytes is the most that is not written yet while producers are paced because messages
	// are not acknowledged. The reader may acknowledge late, and the connection must not be idle.
	unsentBytes       = pacedBytes
	resumeUnsentBytes = unsentBytes / 4 * 3
	// unackedBytes is the most that is held while producers are paced because messages are not
	// acknowledged, until the reader turns out to need more. Without it a producer on the same
	// processor as the goroutine that reads acknowledgements fills all caches before that runs.
	unackedBytes = 2 << 20
	// slowAfter is the time in which a connection takes some bytes, unless it is slow.
	slowAfter = 5 * time.Millisecond
)

// A pacing is the state of the pace of a queue.
type pacing struct {
	bytesAlone bool // The number of messages does not limit producers that are paced.

	unacked  uint64        // unackedBytes, or more if the reader acknowledges later than that.
	active   bool          // The connection has taken its last batch within slowAfter.
	takenAt  time.Duration // When the last batch was taken from the queue, since startTime.
	progress uint64        // Batches of which the connection has taken a part.

	timer    *time.Timer // Looks whether the connection is still fast, as long as a producer waits for that.
	timerSet bool
	seen     uint64 // progress when the timer was set.
}

// markTakenLocked notes that a batch is about to be written.
func (q *Queue) markTakenLocked() { q.pacing.takenAt = time.Since(q.startTime) }

// noteProgressLocked notes that the connection has taken n bytes of the batch.
func (q *Queue) noteProgressLocked(n int) {
	if n > 0 {
		q.pacing.progress++
	}
	if n == 0 || q.dropOldest || time.Since(q.startTime)-q.pacing.takenAt >= slowAfter {
		q.stopPacingLocked()
		return
	}
	q.pacing.active = true
	q.watchPaceLocked() // Producers may have waited for room before.
}

// unsentLocked returns the held bytes without those of the segments that are written whole.
func (q *Queue) unsentLocked() uint64 { return q.heldBytesLocked() - uint64(q.sentBytes) }

// isPacingLocked reports whether producers are paced. They are not while a caller of NotifySpace
// waits for room behind them.
func (q *Queue) isPacingLocked() bool { return q.pacing.active && !q.closed && q.spaceFreed == nil }

// pacesLocked reports whether a producer that may wait must do so before it adds size bytes,
// although the limits of the queue would let it go on.
func (q *Queue) pacesLocked(size int) bool {
	if !q.isPacingLocked() {
		return false
	}
	held, unsent := q.heldBytesLocked(), q.unsentLocked()
	if q.acks && held+uint64(size) > q.unackedLimitLocked(size) {
		return true
	}
	return unsent > 0 && unsent+uint64(size) > unsentBytes && held+uint64(size) > pacedBytes
}

// fitsPacedLocked reports whether a producer that may wait can add size bytes, although the queue
// has all the messages that its limit allows.
func (q *Queue) fitsPacedLocked(size int) bool {
	return q.pacing.bytesAlone && q.pacing.active && q.heldBytesLocked()+uint64(size) <= min(pacedBytes, q.maxBytes)
}

// pausesLocked reports whether producers that wait are not served yet, because of pacing.
func (q *Queue) pausesLocked() bool {
	if !q.isPacingLocked() {
		return false
	}
	held := q.heldBytesLocked()
	return held > resumeBytes && q.unsentLocked() > resumeUnsentBytes ||
		q.acks && q.producers.first != nil && held > q.unackedLimitLocked(q.producers.first.value.size)/4*3
}

// unackedLimitLocked returns the most that is held while producers with frames of size bytes are
// paced. A few large messages are always in flight.
func (q *Queue) unackedLimitLocked(size int) uint64 { return max(q.pacing.unacked, 8*uint64(size)) }

// stopPacingLocked is called when the connection is slow, or has ended.
func (q *Queue) stopPacingLocked() {
	if q.pacing.active {
		q.pacing.active = false
		q.serveWaitersLocked()
	}
}

// watchPaceLocked has onPaceTimer called, as long as a producer waits because of pacing.
func (q *Queue) watchPaceLocked() {
	p := &q.pacing
	if p.timerSet || !p.active || q.producers.first == nil {
		return
	}
	p.timerSet, p.seen = true, p.progress
	if p.timer == nil {
		p.timer = time.AfterFunc(slowAfter, q.onPaceTimer)
	} else {
		p.timer.Reset(slowAfter)
	}
}

// onPaceTimer stops pacing if the connection has taken nothing since the timer was set.
func (q *Queue) onPaceTimer() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pacing.timerSet = false
	if q.pacing.progress == q.pacing.seen && q.producers.first != nil {
		if q.acks && q.pacing.active && q.unsentLocked() == 0 && q.pacing.unacked < q.maxBytes {
			q.pacing.unacked *= 2 // The reader acknowledges later.
			q.serveWaitersLocked()
		} else {
			q.stopPacingLocked()
		}
	}
	q.watchPaceLocked()
}

// serveUnpacedLocked serves the producers that wait because of pacing alone, so that a message of
// one that does not wait is not refused because of them. It reports whether none is left.
func (q *Queue) serveUnpacedLocked() bool {
	q.stopPacingLocked()
	return q.producers.first == nil
}
