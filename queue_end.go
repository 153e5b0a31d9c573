// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what is known of the queue from outside, and how it ends.

import (
	"fmt"
	"slices"
)

// undeliveredErr returns an error if messages were given up.
func (q *queue) undeliveredErr() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.counts.undelivered > 0 {
		return fmt.Errorf("%w: %d messages were not sent", errStopped, q.counts.undelivered)
	}
	return nil
}

// removedThrough returns the number of the last message that is not queued any more, nor any before it.
func (q *queue) removedThrough() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.removedThroughLocked()
}

// empty says whether nothing is queued, once what is stale is gone. If so, the next push wakes.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.expireLocked(q.ageLocked()) {
		q.serveWaitersLocked()
	}
	q.markIdleLocked()
	return q.emptyLocked()
}

// snapshot returns the counters, all of one moment.
func (q *queue) snapshot() (queueCounts, latencySummary) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.countsLocked(), q.ackTimes.summary()
}

// heldBytes returns the bytes that are queued or have their room.
func (q *queue) heldBytes() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.heldBytesLocked()
}

// readCounts is snapshot without the times.
func (q *queue) readCounts() queueCounts {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.countsLocked()
}

func (q *queue) countsLocked() queueCounts {
	if q.expireLocked(q.ageLocked()) {
		q.serveWaitersLocked()
	}
	counts := q.counts
	counts.queued, counts.queuedBytes = q.queuedLocked(), q.queuedBytesLocked()
	if q.acks && !q.discarded {
		counts.unacknowledged = q.seq.sent - q.seq.acked
	}
	return counts
}

// removeHead removes the oldest message, as undelivered, and returns a copy of it, if it has this number.
// Otherwise it is gone already: it was dropped, or too old.
func (q *queue) removeHead(number uint64) (data []byte, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	head := q.headLocked()
	if len(head.segs) == 0 || head.segs[0].first != number {
		return nil, false
	}
	data, _ = head.message(0)
	data = slices.Clone(data)
	q.dropMessageLocked(head, 0)
	q.counts.undelivered++
	q.serveWaitersLocked()
	return data, true
}

// close refuses further messages; those who wait for room get errStopped.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.serveWaitersLocked()
	q.mu.Unlock()
}

// discardAll closes the queue and takes all that is left out of it, as undelivered. Each message is handed
// to visit, which may be nil and must not keep it. It returns how many there were. The chunks are not
// used again: a write that hangs may still read them.
func (q *queue) discardAll(visit func(data []byte)) (left uint64) {
	left, rest := q.takeUndelivered()
	rest.visit(visit)
	return left
}

// undelivered is what was left in a queue at its end.
type undelivered [2][]segment

// takeUndelivered closes the queue and returns what is left in it.
func (q *queue) takeUndelivered() (left uint64, rest undelivered) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.trimLocked()
	rest = undelivered{q.front.segs, q.waiting.segs}
	left = q.queuedLocked()
	q.counts.undelivered += left
	q.front, q.waiting, q.open, q.tail, q.discarded = segmentList{}, segmentList{}, false, nil, true
	q.next, q.taken, q.writtenBytes, q.writtenFrames, q.earlyAck = 0, 0, 0, 0, 0
	if q.expiryTimer != nil {
		q.expiryTimer.Stop()
	}
	q.serveWaitersLocked()
	return left, rest
}

// visit hands over each message, from the oldest to the newest. A nil visit is not called.
func (r undelivered) visit(visit func(data []byte)) {
	if visit == nil {
		return
	}
	for _, segs := range r {
		for _, seg := range segs {
			for b := seg.chunk.b[seg.from:seg.to]; len(b) > 0; {
				length, header, _ := parsePrefix(b)
				end := header + int(length)
				visit(b[header:end:end])
				b = b[end:]
			}
		}
	}
}
