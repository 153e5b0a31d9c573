// SPDX-License-Identifier: Apache-2.0

package queue

// This file has the counters of the queue, and its end.

import (
	"fmt"
	"slices"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/latency"
	"github.com/udsipc/udsipc/internal/wire"
)

// UndeliveredErr returns an error if messages are counted as undelivered.
func (q *Queue) UndeliveredErr() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.counts.Undelivered > 0 {
		return fmt.Errorf("%w: %s not sent", errdefs.ErrStopped, errdefs.CountIs(q.counts.Undelivered, "was", "were"))
	}
	return nil
}

// RemovedThrough returns the number up to which every message has left the queue.
func (q *Queue) RemovedThrough() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.removedThroughLocked()
}

// Empty drops expired messages and reports whether nothing is queued. Then the next message wakes
// the send loop.
func (q *Queue) Empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.expireLocked(q.ageLocked()) {
		q.serveWaitersLocked()
	}
	q.markIdleLocked()
	return q.emptyLocked()
}

// Snapshot returns a consistent snapshot of the counters, the age of the oldest message and the
// acknowledgement times.
func (q *Queue) Snapshot() (queueCounts, latency.Summary) {
	q.mu.Lock()
	defer q.mu.Unlock()
	counts := q.countsLocked()
	counts.OldestAge = q.oldestAgeLocked()
	return counts, q.ackTimes.Summary()
}

// oldestAgeLocked returns how long the oldest message is queued. It is never too little. Only the first message of
// a segment has a time of its own: if that has left the queue, the age is too much by what passed between the two.
// So a segment that grows for long ends here.
func (q *Queue) oldestAgeLocked() time.Duration {
	head := q.headLocked()
	if len(head.segs) == 0 {
		return 0
	}
	now := time.Since(q.startTime)
	if n := len(q.waiting.segs); q.open && now-q.waiting.segs[n-1].queuedAt > maxSegmentAge {
		q.open = false
	}
	return now - head.segs[0].queuedAt
}

// maxSegmentAge is how old a segment may be that grows on after a Snapshot.
const maxSegmentAge = time.Second

// HeldBytes returns the bytes of queued messages and of reserved room.
func (q *Queue) HeldBytes() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.heldBytesLocked()
}

// ReadCounts is Snapshot without the acknowledgement times.
func (q *Queue) ReadCounts() queueCounts {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.countsLocked()
}

func (q *Queue) countsLocked() queueCounts {
	if q.expireLocked(q.ageLocked()) {
		q.serveWaitersLocked()
	}
	counts := q.counts
	counts.Queued, counts.QueuedBytes = q.queuedLocked(), q.queuedBytesLocked()
	if q.acks && !q.discarded {
		counts.Unacknowledged = q.seq.sent - q.seq.Acked
	}
	return counts
}

// RemoveHead removes the oldest message as undelivered if it has this number, and returns a copy.
// If it has another number, the message was dropped or has expired.
func (q *Queue) RemoveHead(number uint64) (data []byte, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	head := q.headLocked()
	if len(head.segs) == 0 || head.segs[0].first != number {
		return nil, false
	}
	data, _ = head.message(0)
	data = slices.Clone(data)
	q.dropMessageLocked(head, 0)
	q.counts.Undelivered++
	q.serveWaitersLocked()
	return data, true
}

// Close makes the queue refuse further messages. Producers that wait for room get ErrStopped.
func (q *Queue) Close() {
	q.mu.Lock()
	q.closed = true
	q.serveWaitersLocked()
	q.mu.Unlock()
}

// DiscardAll closes the queue and removes all messages as undelivered. It calls visit for each,
// unless visit is nil; visit must not keep the message. It returns the number of messages. The
// chunks are not used again: a write that has not returned may still read them.
func (q *Queue) DiscardAll(visit func(data []byte)) (left uint64) {
	left, rest := q.TakeUndelivered()
	rest.Visit(visit)
	return left
}

// Undelivered has the messages that were left in a queue.
type Undelivered [2][]segment

// TakeUndelivered closes the queue and returns the messages that were left.
func (q *Queue) TakeUndelivered() (left uint64, rest Undelivered) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.trimLocked()
	q.takeLoansLocked()
	rest = Undelivered{q.front.segs, q.waiting.segs}
	left = q.queuedLocked()
	q.counts.Undelivered += left
	q.front, q.waiting, q.open, q.tail, q.discarded = segmentList{}, segmentList{}, false, nil, true
	q.next, q.taken, q.sentBytes, q.writtenBytes, q.writtenFrames, q.earlyAck = 0, 0, 0, 0, 0, 0
	if q.expiryTimer != nil {
		q.expiryTimer.Stop()
	}
	q.serveWaitersLocked()
	return left, rest
}

// Visit calls visit for each message, the oldest first. visit may be nil.
func (r Undelivered) Visit(visit func(data []byte)) {
	if visit == nil {
		return
	}
	for _, segs := range r {
		for _, seg := range segs {
			for b := seg.chunk.B[seg.from:seg.to]; len(b) > 0; {
				length, header, _ := wire.ParsePrefix(b)
				end := header + int(length)
				visit(b[header:end:end])
				b = b[end:]
			}
		}
	}
}
