// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what the tests of the queue see of it.

import (
	"context"
	"fmt"
	"time"
)

// BufferSize is the length of a buffer of the pool for so many bytes, and which pool that is.
var BufferSize = bufferSize

// ChunkSize is the largest frame that shares its memory with others.
const ChunkSize = chunkSize

// A Queue is the queue of a Writer without one.
type Queue struct{ q *queue }

// A QueueConfig is what a Queue is made of.
type QueueConfig struct {
	MaxMessages, MaxBytes       uint64
	DropOldest, Acks, Undrained bool
	MaxAge                      time.Duration
	Shared                      *SharedRoom
}

// A QueueState is where the messages are.
type QueueState struct {
	Accepted, Refused, Sent, Dropped, Expired, Undelivered, Queued, QueuedBytes uint64
}

func NewQueue(c QueueConfig) Queue {
	limits := queueLimits{messages: c.MaxMessages, bytes: c.MaxBytes, dropOldest: c.DropOldest, acks: c.Acks, maxAge: c.MaxAge, undrained: c.Undrained}
	if c.Shared != nil {
		limits.shared = &c.Shared.s
	}
	return Queue{newQueue(limits)}
}

func (q Queue) Push(data []byte) error { return q.q.enqueueAndWake(data) }
func (q Queue) PushWait(ctx context.Context, data []byte) error {
	return q.q.enqueueWaitAndWake(ctx, data)
}
func (q Queue) Flush(ctx context.Context) error                 { return q.q.flush(ctx) }
func (q Queue) Flushed() <-chan struct{}                        { return q.q.flushed() }
func (q Queue) Room() <-chan struct{}                           { return q.q.notifySpace() }
func (q Queue) Ready() <-chan struct{}                          { return q.q.ready() }
func (q Queue) Reserve(failed <-chan struct{})                  { q.q.waitIdle(failed) }
func (q Queue) Written(n int) (messages int, err error)         { return q.q.markWritten(n) }
func (q Queue) Acknowledge(number uint64) (early bool, e error) { return q.q.acknowledge(number) }
func (q Queue) Unacknowledged() uint64                          { return q.q.unacknowledged() }
func (q Queue) Rewind() (partial, size uint64)                  { return q.q.rewind() }
func (q Queue) RefuseLarge() (data []byte, burnt bool)          { return q.q.removeOversized() }
func (q Queue) SetAside(number uint64) ([]byte, bool)           { return q.q.removeHead(number) }
func (q Queue) DropControl()                                    { q.q.dropControl() }
func (q Queue) Given() error                                    { return q.q.undeliveredErr() }
func (q Queue) Passed() uint64                                  { return q.q.removedThrough() }
func (q Queue) Empty() bool                                     { return q.q.empty() }
func (q Queue) Held() uint64                                    { return q.q.heldBytes() }
func (q Queue) Close()                                          { q.q.close() }
func (q Queue) Seal(visit func([]byte)) uint64                  { return q.q.discardAll(visit) }

// Put and its kin also return the number of the message, and whether the caller has to drain.
func (q Queue) Put(data []byte) (number uint64, idle bool, err error) { return q.q.enqueue(data) }
func (q Queue) PutControl(data []byte) (number uint64, idle bool, err error) {
	return q.q.enqueueControl(data)
}
func (q Queue) PutAlways(data []byte) (number uint64, idle bool, err error) {
	return q.q.enqueueUnbounded(data)
}

func (q Queue) PutWait(ctx context.Context, data []byte) (number uint64, idle bool, err error) {
	return q.q.enqueueWait(ctx, data)
}

// Resume is what a Writer does with a welcome.
func (q Queue) Resume(handled, limit uint64) (released uint64, err error) {
	return q.q.applyWelcome(handled, limit)
}

// A QueueTally is what the metrics know of a Queue.
type QueueTally struct {
	QueueState
	Unacknowledged, Redelivered, Needless uint64
}

// Tally looks for messages that are too old, other than State.
func (q Queue) Tally() QueueTally {
	c := q.q.readCounts()
	state := QueueState{c.accepted, c.refused, c.sent, c.dropped, c.expired, c.undelivered, c.queued, c.queuedBytes}
	return QueueTally{state, c.unacknowledged, c.retransmitted, c.droppedControl}
}

// AckTimes says how long the acknowledgements took.
func (q Queue) AckTimes() LatencySummary {
	_, t := q.q.snapshot()
	return LatencySummary(t)
}

// Promise keeps room for a frame of so many bytes, until Redeem copies a message into it.
func (q Queue) Promise(size int) {
	q.q.mu.Lock()
	defer q.q.mu.Unlock()
	q.q.reserveLocked(size)
}

func (q Queue) Redeem(data []byte) (number uint64, idle bool, err error) {
	return q.q.enqueueReserved(data, frameSize(len(data)))
}

// Segments is how many pieces of memory the messages lie in, and whether a chunk is kept to be filled.
func (q Queue) Segments() (n int, chunk bool) {
	q.q.mu.Lock()
	defer q.q.mu.Unlock()
	return len(q.q.front.segs) + len(q.q.waiting.segs), q.q.tail != nil
}

// Spare is how many places in line are kept to be used again.
func (q Queue) Spare() int { return len(q.q.spareWaiters) }

// HasTimer says whether time alone may drop messages.
func (q Queue) HasTimer() bool { return q.q.expiryTimer != nil }

// A SharedRoom is what the queues of a Listener hold together.
type SharedRoom struct{ s sharedLimit }

func NewSharedRoom(limit int64) *SharedRoom {
	r := &SharedRoom{}
	r.s.setLimit(limit)
	return r
}

func (r *SharedRoom) Enter()          { r.s.addQueue() }
func (r *SharedRoom) Leave()          { r.s.removeQueue() }
func (r *SharedRoom) Dropped() uint64 { return r.s.droppedMessages() }

// Used is what all hold, and how many queues wait for others to get smaller.
func (r *SharedRoom) Used() (bytes int64, waiting int) {
	r.s.mu.Lock()
	defer r.s.mu.Unlock()
	if int64(len(r.s.waiters)) != r.s.waiterCount.Load() {
		panic("the line is not as long as it says")
	}
	return r.s.used.Load(), len(r.s.waiters)
}

// SharedFits says whether a queue that counts for before may hold size bytes more than held, while all count for used.
func SharedFits(limit, used, queues, before int64, held uint64, size int) bool {
	var s sharedLimit
	s.setLimit(limit)
	s.used.Store(used)
	s.queues.Store(queues)
	return s.fits(before, held, size)
}

// Percentiles is what a histogram says of these times.
func Percentiles(times []time.Duration) LatencySummary {
	var h histogram
	for _, d := range times {
		h.add(d, 1)
	}
	return LatencySummary(h.summary())
}

// Age makes every message so much older.
func (q Queue) Age(d time.Duration) { q.q.startTime = q.q.startTime.Add(-d) }

// CanFit says whether a message of so many bytes fits, once all is dropped that may be.
func (q Queue) CanFit(size int) bool {
	q.q.mu.Lock()
	defer q.q.mu.Unlock()
	size = frameSize(size)
	return q.q.fitsLocked(size) || q.q.dropOldest && q.q.canDropLocked(size)
}

// Acked is the number up to which all messages have left the queue.
func (q Queue) Acked() uint64 { return q.q.sequence().acked }

// Take returns what is to be written, about limit bytes, and at most slices of it.
func (q Queue) Take(limit, slices int) [][]byte {
	return q.q.nextBatch(make([][]byte, 0, slices), limit)
}

// TakeInto is Take with the caller's memory.
func (q Queue) TakeInto(bufs [][]byte, limit int) [][]byte { return q.q.nextBatch(bufs, limit) }

// State does not look for messages that are too old, other than Metrics.
func (q Queue) State() QueueState {
	q.q.mu.Lock()
	defer q.q.mu.Unlock()
	c := q.q.counts
	return QueueState{c.accepted, c.refused, c.sent, c.dropped, c.expired, c.undelivered, q.q.queuedLocked(), q.q.queuedBytesLocked()}
}

// Waiting returns how many wait for room, and for how many messages somebody flushes.
func (q Queue) Waiting() (producers, flushes int) {
	q.q.mu.Lock()
	defer q.q.mu.Unlock()
	for p := q.q.producers.first; p != nil; p = p.next {
		producers++
	}
	for f := q.q.flushers.first; f != nil; f = f.next {
		flushes++
	}
	return producers, flushes
}

// Check looks for what can never be.
func (q Queue) Check() error {
	q.q.mu.Lock()
	defer q.q.mu.Unlock()
	refs := map[*buffer]int{}
	next := uint64(0)
	for _, list := range []*segmentList{&q.q.front, &q.q.waiting} {
		count, bytes := 0, 0
		for i, seg := range list.segs {
			frames, end := wholeFrames(seg.chunk.b[seg.from:seg.to])
			if frames != seg.count || end != seg.to-seg.from || frames == 0 {
				return fmt.Errorf("segment %d has %d frames of %d bytes, says %d of %d", i, frames, end, seg.count, seg.to-seg.from)
			}
			if seg.first <= next {
				return fmt.Errorf("segment %d begins with message %d after %d", i, seg.first, next)
			}
			next = seg.first + uint64(seg.count) - 1
			count += frames
			bytes += end
			refs[seg.chunk]++
		}
		if count != list.count || bytes != list.bytes {
			return fmt.Errorf("the list has %d frames of %d bytes, says %d of %d", count, bytes, list.count, list.bytes)
		}
	}
	for chunk, n := range refs {
		if chunk.refs != n {
			return fmt.Errorf("%d segments lie in a chunk that says %d", n, chunk.refs)
		}
	}
	switch s := q.q.seq; {
	case next > q.q.counts.accepted:
		return fmt.Errorf("message %d of %d is queued", next, q.q.counts.accepted)
	case q.q.next > q.q.taken && q.q.taken > 0, q.q.taken > len(q.q.front.segs), q.q.next > len(q.q.front.segs):
		return fmt.Errorf("%d written and %d taken of %d segments", q.q.next, q.q.taken, len(q.q.front.segs))
	case s.acked > s.sent, s.sent > s.highestSent:
		return fmt.Errorf("%+v", s)
	case q.q.reserved != 0 || q.q.reservedBytes != 0:
		return fmt.Errorf("room for %d messages is promised while nobody writes", q.q.reserved)
	case q.q.producers.first != nil && q.q.closed:
		return fmt.Errorf("somebody waits for room in a queue that is closed")
	}
	if f := q.q.flushers.first; f != nil && f.value.target <= q.q.removedThroughLocked() {
		return fmt.Errorf("a flush waits for message %d, which has left", f.value.target)
	}
	waits := len(q.q.waiting.segs) > 0
	if q.q.maxAge > 0 && waits {
		if age := q.q.ageLocked() - q.q.waiting.segs[0].queuedAt; age > q.q.maxAge+minExpiryInterval {
			return fmt.Errorf("a message has waited for %v, and may for %v", age, q.q.maxAge)
		}
	}
	if q.q.maxAge > 0 && (waits || q.q.firstDroppableLocked() < len(q.q.front.segs)) && !q.q.timerSet {
		return fmt.Errorf("no timer runs for what gets too old")
	}
	if p := q.q.producers.first; p != nil && q.q.fitsLocked(p.value.size) {
		return fmt.Errorf("a producer waits for room for %d bytes, which there is", p.value.size)
	}
	return nil
}
