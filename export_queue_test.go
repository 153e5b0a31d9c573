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
	MaxMessages, MaxBytes uint64
	DropOldest, Acks      bool
	MaxAge                time.Duration
}

// A QueueState is where the messages are.
type QueueState struct {
	Accepted, Refused, Sent, Dropped, Expired, Undelivered, Queued, QueuedBytes uint64
}

func NewQueue(c QueueConfig) Queue {
	return Queue{newQueue(queueLimits{messages: c.MaxMessages, bytes: c.MaxBytes, dropOldest: c.DropOldest, acks: c.Acks, maxAge: c.MaxAge})}
}

func (q Queue) Push(data []byte) error                          { return q.q.push(data) }
func (q Queue) PushWait(ctx context.Context, data []byte) error { return q.q.pushWait(ctx, data) }
func (q Queue) PushControl(data []byte) error                   { _, _, err := q.q.putControl(data); return err }
func (q Queue) Flush(ctx context.Context) error                 { return q.q.flush(ctx) }
func (q Queue) Room() <-chan struct{}                           { return q.q.awaitRoom() }
func (q Queue) Written(n int) error                             { _, err := q.q.written(n); return err }
func (q Queue) Acknowledge(number uint64) error                 { _, err := q.q.acknowledge(number); return err }
func (q Queue) Rewind() (partial uint64)                        { partial, _ = q.q.rewind(); return partial }
func (q Queue) Resume(handled, limit uint64) error              { _, err := q.q.resume(handled, limit); return err }
func (q Queue) RefuseLarge() (data []byte, burnt bool)          { return q.q.refuseLarge() }
func (q Queue) SetAside(number uint64) ([]byte, bool)           { return q.q.setAside(number) }
func (q Queue) Close()                                          { q.q.close() }
func (q Queue) Seal(visit func([]byte)) uint64                  { return q.q.seal(visit) }

// Age makes every message so much older.
func (q Queue) Age(d time.Duration) { q.q.epoch = q.q.epoch.Add(-d) }

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
func (q Queue) Take(limit, slices int) [][]byte { return q.q.take(make([][]byte, 0, slices), limit) }

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
	for p := q.q.room.first; p != nil; p = p.next {
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
	case s.acked > s.sent, s.sent > s.highest:
		return fmt.Errorf("%+v", s)
	case q.q.promised != 0 || q.q.promisedBytes != 0:
		return fmt.Errorf("room for %d messages is promised while nobody writes", q.q.promised)
	case q.q.room.first != nil && q.q.closed:
		return fmt.Errorf("somebody waits for room in a queue that is closed")
	}
	if f := q.q.flushers.first; f != nil && f.who.target <= q.q.passedLocked() {
		return fmt.Errorf("a flush waits for message %d, which has left", f.who.target)
	}
	waits := len(q.q.waiting.segs) > 0
	if q.q.maxAge > 0 && waits {
		if age := q.q.ageLocked() - q.q.waiting.segs[0].at; age > q.q.maxAge+minExpiry {
			return fmt.Errorf("a message has waited for %v, and may for %v", age, q.q.maxAge)
		}
	}
	if q.q.maxAge > 0 && (waits || q.q.firstIdleLocked() < len(q.q.front.segs)) && !q.q.armed {
		return fmt.Errorf("no timer runs for what gets too old")
	}
	if p := q.q.room.first; p != nil && q.q.fitsLocked(p.who.size) {
		return fmt.Errorf("a producer waits for room for %d bytes, which there is", p.who.size)
	}
	return nil
}
