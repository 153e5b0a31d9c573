// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what leaves the queue undelivered to make room, or because it is too old.

import (
	"time"
)

// makeRoomLocked drops what is stale and, with OverflowDropOldest, what is oldest.
func (q *queue) makeRoomLocked(size int, now time.Duration) bool {
	q.expireLocked(now)
	for q.dropOldest && !q.fitsLocked(size) {
		i := q.firstIdleLocked()
		if i == len(q.segs) {
			return false
		}
		q.dropFrameLocked(i)
		q.counts.dropped++
	}
	return q.fitsLocked(size)
}

// grain is how far apart the messages of one segment may be in time: a message is dropped for its
// age at most that much too early.
func (q *queue) grain() time.Duration {
	return min(q.maxAge/64, time.Millisecond)
}

// firstIdleLocked is the first segment that may be dropped: no byte of it is under way and, with acks,
// none ever was.
func (q *queue) firstIdleLocked() int {
	if q.acks {
		return q.touched
	}
	if q.part > 0 {
		return max(q.taken, 1)
	}
	return q.taken
}

// dropFrameLocked removes the first frame of segment i.
func (q *queue) dropFrameLocked(i int) {
	seg := &q.segs[i]
	length, header, _ := parseHeader(seg.chunk.b[seg.from:seg.to])
	q.forgetLocked(seg, 1, header+int(length))
	if seg.count == 0 {
		q.removeLocked(i, 1)
	}
}

// expireLocked drops the messages that are older than maxAge.
func (q *queue) expireLocked(now time.Duration) {
	if q.maxAge == 0 {
		return
	}
	first := q.firstIdleLocked()
	end := first
	for end < len(q.segs) && now-q.segs[end].at > q.maxAge {
		seg := &q.segs[end]
		q.counts.expired += uint64(seg.count)
		q.forgetLocked(seg, seg.count, seg.to-seg.from)
		end++
	}
	q.removeLocked(first, max(0, end-first))
	q.notifyLocked()
}
