// SPDX-License-Identifier: Apache-2.0

package queue

// This file drops messages, to make room or because they are too old.

import (
	"time"
)

// minExpiryInterval is the least time between two checks for expired messages.
const minExpiryInterval = time.Millisecond

// makeSpaceLocked reports whether there is room for so many messages with frames of size bytes. It
// first drops expired messages and, with OverflowDropOldest, the oldest ones. It drops none of the
// latter if that could not make enough room.
func (q *Queue) makeSpaceLocked(count uint64, size int, now time.Duration) bool {
	if q.fitsLocked(count, size) {
		return true
	}
	q.expireLocked(now)
	if !q.dropOldest || !q.canDropLocked(count, size) {
		return q.fitsLocked(count, size)
	}
	q.dropErr = q.fullErrLocked(count, size)
	for first := q.firstDroppableLocked(); !q.fitsLocked(count, size); q.counts.Dropped++ {
		switch {
		case first < len(q.front.segs):
			q.dropMessageLocked(&q.front, first)
		case len(q.waiting.segs) > 0:
			q.dropMessageLocked(&q.waiting, 0)
		default:
			return false // Another queue has just taken the room.
		}
		if q.shared != nil {
			q.shared.dropped.Add(1)
		}
	}
	return true
}

// fitsLocked reports whether there is room for so many messages with frames of size bytes.
func (q *Queue) fitsLocked(count uint64, size int) bool {
	return q.fitsOwnLimitsLocked(count, size) && (q.shared == nil || q.fitsSharedLimitLocked(q.heldBytesLocked(), size))
}

// fitsOwnLimitsLocked is fitsLocked without the shared limit.
func (q *Queue) fitsOwnLimitsLocked(count uint64, size int) bool {
	return q.queuedLocked()+q.reserved+count <= q.maxMessages &&
		q.queuedBytesLocked()+q.reservedBytes+uint64(size) <= q.maxBytes
}

// canDropLocked reports whether so many messages with frames of size bytes would fit after all
// droppable messages are dropped.
func (q *Queue) canDropLocked(count uint64, size int) bool {
	messages, bytes := q.reserved, q.reservedBytes
	if q.acks {
		messages += uint64(q.front.count - q.releasedInFirst)
		bytes += uint64(q.front.bytes)
	} else { // At most one batch.
		for _, seg := range q.front.segs[:q.firstDroppableLocked()] {
			messages += uint64(seg.count)
			bytes += uint64(seg.to - seg.from)
		}
	}
	return messages+count <= q.maxMessages && bytes+uint64(size) <= q.maxBytes && q.fitsSharedLimitLocked(bytes, size)
}

// ageResolution returns the largest difference in age between the messages of one segment. A
// message expires at most that much too early.
func (q *Queue) ageResolution() time.Duration {
	return min(q.maxAge/64, time.Millisecond)
}

// firstDroppableLocked returns the first segment of front that may be dropped: no byte of it is in
// flight and, with acks, none ever was. All segments of waiting may be dropped.
func (q *Queue) firstDroppableLocked() int {
	if q.acks {
		return len(q.front.segs)
	}
	if q.writtenBytes > 0 {
		return max(q.taken, 1)
	}
	return q.taken
}

// dropMessageLocked removes the first message of segment i of a list.
func (q *Queue) dropMessageLocked(list *segmentList, i int) {
	_, size := list.message(i)
	list.trimFront(i, 1, size)
	if list.segs[i].count == 0 {
		q.removeLocked(list, i, 1)
	}
}

// DropControl drops all queued messages if all are of EnqueueControl, because their connection has
// ended. No message may be in flight.
func (q *Queue) DropControl() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.emptyLocked() || q.controlTo != q.counts.Accepted || q.removedThroughLocked()+1 < q.controlFrom {
		return
	}
	for !q.emptyLocked() {
		q.dropMessageLocked(q.headLocked(), 0)
		q.counts.Dropped++
		q.counts.DroppedControl++
	}
	q.serveWaitersLocked()
}

// expireLocked drops the messages that are older than maxAge, and reports whether there were any.
// It also wakes the send loop, which reports them.
func (q *Queue) expireLocked(now time.Duration) bool {
	if q.maxAge == 0 {
		return false
	}
	before := q.counts.Expired
	q.expireFromLocked(&q.front, q.firstDroppableLocked(), now)
	q.expireFromLocked(&q.waiting, 0, now)
	if q.counts.Expired == before {
		return false
	}
	q.Signal()
	return true
}

func (q *Queue) expireFromLocked(list *segmentList, first int, now time.Duration) {
	end := first
	for end < len(list.segs) && now-list.segs[end].queuedAt > q.maxAge {
		q.counts.Expired += uint64(list.segs[end].count)
		end++
	}
	q.removeLocked(list, first, max(0, end-first))
}

// setExpiryTimerLocked starts the timer that calls onExpiryTimer when the oldest droppable message
// expires.
func (q *Queue) setExpiryTimerLocked(now time.Duration) {
	if q.maxAge == 0 || q.timerSet {
		return
	}
	var oldest *segment
	if first := q.firstDroppableLocked(); first < len(q.front.segs) {
		oldest = &q.front.segs[first]
	} else if len(q.waiting.segs) > 0 {
		oldest = &q.waiting.segs[0]
	} else {
		return
	}
	q.timerSet = true
	wait := max(oldest.queuedAt+q.maxAge-now+1, minExpiryInterval)
	if q.expiryTimer == nil {
		q.expiryTimer = time.AfterFunc(wait, q.onExpiryTimer)
	} else {
		q.expiryTimer.Reset(wait)
	}
}

// onExpiryTimer drops expired messages while the send loop waits for something else.
func (q *Queue) onExpiryTimer() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.timerSet = false
	if q.discarded {
		return
	}
	now := q.ageLocked()
	if q.expireLocked(now) {
		q.serveWaitersLocked()
	}
	q.setExpiryTimerLocked(now)
}
