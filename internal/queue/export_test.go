// SPDX-License-Identifier: Apache-2.0

package queue

// This file is what the tests of the queue see of it beside what is exported.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/wire"
)

// What Snapshot and ReadCounts return.
type (
	Counts = queueCounts
)

// TurnWaits is how often producers wait before they get turns.
const TurnWaits = turnWaits

// ReserveRoom keeps room for a frame of so many bytes, until EnqueueReserved copies a message into it.
func (q *Queue) ReserveRoom(size int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.reserveLocked(1, size)
}

func (q *Queue) EnqueueReserved(data []byte) (number uint64, idle bool, err error) {
	return q.enqueueReserved(data, wire.FrameSize(len(data)), wait{})
}

// Segments is how many pieces of memory the messages lie in, and whether a chunk is kept to be filled.
func (q *Queue) Segments() (n int, chunk bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.front.segs) + len(q.waiting.segs), q.tail != nil
}

// Spare is how many places in line are kept to be used again.
func (q *Queue) Spare() int { return len(q.spareWaiters) }

// SpareLoans is how many loans are kept to be used again.
func (q *Queue) SpareLoans() int { return len(q.loans.spare) }

// WatchesPace says whether a timer looks at the pace of the connection.
func (q *Queue) WatchesPace() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.pacing.timerSet
}

// HasTimer says whether time alone may drop messages.
func (q *Queue) HasTimer() bool { return q.expiryTimer != nil }

// Used is what all queues hold, and how many wait for others to get smaller.
func (s *SharedLimit) Used() (bytes int64, waiting int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if int64(len(s.waiters)) != s.waiterCount.Load() {
		panic("the line is not as long as it says")
	}
	return s.used.Load(), len(s.waiters)
}

// FitsShared says whether a queue that is charged before may hold size bytes more than held, while
// all are charged used.
func FitsShared(limit, used, queues, before int64, held uint64, size int) bool {
	var s SharedLimit
	s.SetLimit(limit)
	s.used.Store(used)
	s.queues.Store(queues)
	return s.fits(before, held, size)
}

// Age makes every message so much older.
func (q *Queue) Age(d time.Duration) { q.startTime = q.startTime.Add(-d) }

// CanFit says whether a message of so many bytes fits, once all is dropped that may be.
func (q *Queue) CanFit(size int) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	size = wire.FrameSize(size)
	return q.fitsLocked(1, size) || q.dropOldest && q.canDropLocked(1, size)
}

// State does not look for messages that are too old, other than ReadCounts. What is unacknowledged is not in it.
func (q *Queue) State() Counts {
	q.mu.Lock()
	defer q.mu.Unlock()
	c := q.counts
	c.Queued, c.QueuedBytes = q.queuedLocked(), q.queuedBytesLocked()
	return c
}

// Waiting returns how many wait for room, and for how many messages somebody flushes.
func (q *Queue) Waiting() (producers, flushes int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for p := q.producers.first; p != nil; p = p.next {
		producers++
	}
	for f := q.flushers.first; f != nil; f = f.next {
		flushes++
	}
	return producers, flushes
}

// Check looks for what can never be.
func (q *Queue) Check() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	next, err := q.checkSegmentsLocked()
	if err != nil {
		return err
	}
	switch s := q.seq; {
	case next > q.counts.Accepted:
		return fmt.Errorf("message %d of %d is queued", next, q.counts.Accepted)
	case q.next > q.taken && q.taken > 0, q.taken > len(q.front.segs), q.next > len(q.front.segs):
		return fmt.Errorf("%d written and %d taken of %d segments", q.next, q.taken, len(q.front.segs))
	case s.Acked > s.sent, s.sent > s.HighestSent:
		return fmt.Errorf("%+v", s)
	case q.reserved != 0 || q.reservedBytes != 0:
		return fmt.Errorf("room for %d messages is promised while nobody writes", q.reserved)
	case q.producers.first != nil && q.closed:
		return fmt.Errorf("somebody waits for room in a queue that is closed")
	}
	if f := q.flushers.first; f != nil && f.value.target <= q.removedThroughLocked() {
		return fmt.Errorf("a flush waits for message %d, which has left", f.value.target)
	}
	waits := len(q.waiting.segs) > 0
	if q.maxAge > 0 && waits {
		if age := q.ageLocked() - q.waiting.segs[0].queuedAt; age > q.maxAge+minExpiryInterval {
			return fmt.Errorf("a message has waited for %v, and may for %v", age, q.maxAge)
		}
	}
	if q.maxAge > 0 && (waits || q.firstDroppableLocked() < len(q.front.segs)) && !q.timerSet {
		return fmt.Errorf("no timer runs for what gets too old")
	}
	if p := q.producers.first; p != nil && q.fitsLocked(p.value.count, p.value.size) {
		return fmt.Errorf("a producer waits for room for %d bytes, which there is", p.value.size)
	}
	return nil
}

// checkSegmentsLocked compares the segments with what is counted of them. It returns the number of
// the last message.
func (q *Queue) checkSegmentsLocked() (next uint64, err error) {
	refs, recalls := map[*buffers.Buffer]int{}, 0
	for _, list := range []*segmentList{&q.front, &q.waiting} {
		count, bytes := 0, 0
		for i, seg := range list.segs {
			frames, end := 1, 0
			if l := seg.loan; l != nil {
				end = len(l.prefix) + len(l.data)
				if l.copied != nil {
					recalls++
				}
			} else {
				frames, end = wire.WholeFrames(seg.chunk.B[seg.from:seg.to])
				refs[seg.chunk]++
			}
			if frames != seg.count || end != seg.to-seg.from || frames == 0 {
				return 0, fmt.Errorf("segment %d has %d frames of %d bytes, says %d of %d",
					i, frames, end, seg.count, seg.to-seg.from)
			}
			if seg.first <= next {
				return 0, fmt.Errorf("segment %d begins with message %d after %d", i, seg.first, next)
			}
			next = seg.first + uint64(seg.count) - 1
			count += frames
			bytes += end
		}
		if count != list.count || bytes != list.bytes {
			return 0, fmt.Errorf("the list has %d frames of %d bytes, says %d of %d", count, bytes, list.count, list.bytes)
		}
	}
	for _, l := range q.loans.inWrite {
		if l.copied != nil {
			recalls++
		}
	}
	if recalls != q.loans.recalls {
		return 0, fmt.Errorf("%d loans are recalled, says %d", recalls, q.loans.recalls)
	}
	sent := 0
	for _, seg := range q.front.segs[:min(q.next, len(q.front.segs))] {
		sent += seg.to - seg.from
	}
	if sent != q.sentBytes {
		return 0, fmt.Errorf("%d bytes are written, says %d", sent, q.sentBytes)
	}
	for chunk, n := range refs {
		if chunk.Refs != n {
			return 0, fmt.Errorf("%d segments lie in a chunk that says %d", n, chunk.Refs)
		}
	}
	return next, nil
}

// PacedBytes is where producers that may wait are paced.
const PacedBytes = pacedBytes

// TurnBytes and TurnFrameSize are what has to be queued for a turn: how much, and of which mean size.
const (
	TurnBytes     = turnBytes
	TurnFrameSize = turnFrameSize
)

// MinKeptLoan is the size of a message that is not copied at once in a session.
const MinKeptLoan = minKeptLoan
