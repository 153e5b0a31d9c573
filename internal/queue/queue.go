// SPDX-License-Identifier: Apache-2.0

// Package queue is the bounded queue of a sender. Producers append messages, the send loop takes
// batches of frames. When a connection ends, the queue goes back to the beginning of the frame that
// was written in part. It knows no sockets.
package queue

// This file is the queue itself: framed messages in pooled chunks. push.go is how a message gets
// in, take.go how a batch is taken and marked as written, wait.go and flush.go have the two lines
// of goroutines that wait. drop.go, acks.go and end.go are the other ways in which messages leave.

import (
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/wire"
)

// ChunkSize is the size of the pooled chunks: large enough that a chunk is a small share of its
// system call, small enough that a few of them stay in a processor's second-level cache.
const ChunkSize = 64 << 10

// A chunk is a pooled buffer of its very size, and is touched in whole steps. No constant of type uint64 is negative:
// each line is an error of the compiler if its condition is false.
const (
	_ = uint64(0 - ChunkSize&(ChunkSize-1))
	_ = uint64(buffers.MaxSize - ChunkSize)
	_ = uint64(0 - ChunkSize%warmStep)
)

// warmStep is how far ahead of its end a chunk is touched.
const warmStep = 4 << 10

// A Queue holds segments in the order in which their messages were accepted: front, then waiting.
//
//	front[:next]       written, and not acknowledged; none without acks
//	front[next:taken]  being written; only the send loop may touch them
//	front[taken:]      to be written again, or on: a connection broke, or took only a part
//	waiting            never taken; the last one grows while open
//
// Of front[next] the present connection has taken writtenBytes bytes, and writtenFrames whole frames with them.
type Queue struct {
	maxMessages, maxBytes uint64
	dropOldest            bool
	acks                  bool
	maxAge                time.Duration
	startTime             time.Time
	wake                  chan struct{}               // One slot: there is something to look at.
	spareWaiters          chan *fifoElement[producer] // Places in line that are not in use.

	mu                     sync.Mutex // Guards what follows.
	front                  segmentList
	waiting                segmentList
	next                   int
	taken                  int
	writtenBytes           int
	writtenFrames          int
	releasedInFirst        int    // Messages of front[0] that have left the queue, though not its memory.
	earlyAck               uint64 // An acknowledgement of what is being written.
	seq                    sequence
	controlFrom, controlTo uint64 // The last run of messages of EnqueueControl.
	readerLimit            uint64 // The largest message that the reader takes, 0 if that is not known.
	largest                uint64 // The largest message that was ever accepted.
	ackTimes               histogram
	open                   bool
	tail                   *buffers.Buffer // The chunk that is being filled: tail.b[:filled] is used.
	filled                 int
	warm                   int // Up to where tail was touched.
	counts                 queueCounts
	senderIdle             bool // The send loop waits for wake. Without one: no goroutine sends.
	notifyIdle             bool // A goroutine waits until none sends (WaitIdle).
	closed                 bool // No message is accepted any more.
	discarded              bool // What was left was taken out.

	shared       *SharedLimit
	charged      int64 // What this queue has of shared.used.
	inSharedList bool  // The queue waits for others to get smaller.

	reserved      uint64 // Messages that have room, and are being copied outside the lock,
	reservedBytes uint64 // and the bytes of their frames.
	producers     fifo[producer]
	spaceFreed    chan struct{} // Closed when there is room; nil when no goroutine asked.
	flushers      fifo[flusher] // In the order of their targets.
	expiryTimer   *time.Timer   // Has what is too old dropped; with maxAge only.
	timerSet      bool
}

// queueCounts say where each message is: accepted = sent + dropped + expired + undelivered + queued.
type queueCounts struct {
	Accepted, Refused                   uint64
	Sent, Dropped, Expired, Undelivered uint64
	Queued, QueuedBytes                 uint64 // In a snapshot only.
	Unacknowledged, Retransmitted       uint64 // The first in a snapshot only.
	DroppedControl                      uint64 // Of Dropped: messages of EnqueueControl about a connection that has ended.
}

// Limits are what a queue is made of.
type Limits struct {
	Messages, Bytes uint64
	MaxAge          time.Duration // Older messages are dropped; 0: messages do not age.
	DropOldest      bool          // A full queue makes room for a new message.
	Acks            bool          // Messages stay until they are acknowledged.
	Undrained       bool          // There is no send loop: the first Enqueue finds the queue idle.
	Shared          *SharedLimit  // What several queues hold together; nil without others.
}

// New returns an empty queue.
func New(limits Limits) *Queue {
	return &Queue{
		maxMessages:  limits.Messages,
		maxBytes:     limits.Bytes,
		dropOldest:   limits.DropOldest,
		acks:         limits.Acks,
		maxAge:       limits.MaxAge,
		startTime:    time.Now(),
		wake:         make(chan struct{}, 1),
		spareWaiters: make(chan *fifoElement[producer], maxSpareWaiters),
		senderIdle:   limits.Undrained,
		shared:       limits.Shared,
	}
}

// Ready returns the channel that the send loop waits for. It has one slot.
func (q *Queue) Ready() <-chan struct{} { return q.wake }

// Signal wakes the send loop, now or when it next waits.
func (q *Queue) Signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// queuedLocked returns how many messages are queued.
func (q *Queue) queuedLocked() uint64 {
	return uint64(q.front.count + q.waiting.count - q.releasedInFirst)
}

// queuedBytesLocked returns the bytes of all segments.
func (q *Queue) queuedBytesLocked() uint64 { return uint64(q.front.bytes + q.waiting.bytes) }

// headLocked returns the list with the oldest segment; it is empty if the queue is.
func (q *Queue) headLocked() *segmentList {
	if len(q.front.segs) > 0 {
		return &q.front
	}
	return &q.waiting
}

func (q *Queue) emptyLocked() bool { return len(q.headLocked().segs) == 0 }

// appendLocked puts a message, which fits, at the end of the queue. One with a chunk of its own lies there
// already.
func (q *Queue) appendLocked(data []byte, size int, own *buffers.Buffer, now time.Duration) {
	q.counts.Accepted++
	q.largest = max(q.largest, uint64(len(data)))
	if own == nil && size > ChunkSize/2 && q.tail != nil && q.filled+size > ChunkSize {
		own = buffers.Get(size) // A new chunk would be half empty; the old one takes smaller ones.
		wire.AppendFrame(own.B[:0], data)
	}
	chunk, from := own, 0
	if own == nil {
		if q.tail == nil || q.filled+size > ChunkSize {
			q.setTailLocked(buffers.Get(ChunkSize))
		}
		q.warmLocked(size)
		chunk, from = q.tail, q.filled
		q.filled = len(wire.AppendFrame(q.tail.B[:from], data))
		if q.open {
			last := &q.waiting.segs[len(q.waiting.segs)-1]
			if now-last.queuedAt <= q.ageResolution() {
				last.to = q.filled
				last.count++
				q.waiting.count++
				q.waiting.bytes += size
				return
			}
		}
	}
	chunk.Refs++
	q.waiting.add(segment{chunk: chunk, from: from, to: from + size, count: 1, first: q.counts.Accepted, queuedAt: now})
	q.open = own == nil
	q.setExpiryTimerLocked(now)
}

// warmLocked brings the bytes behind the end of the tail into this processor's cache, a step at a
// time. They were last read by another one; without this, each message would wait for its own few
// cache lines when the lock is released, one message after the other, and 128 B cost three times as
// much (docs/PERFORMANCE.md). A run of plain stores waits for all of its lines at once.
func (q *Queue) warmLocked(size int) {
	end := q.filled + size
	if end <= q.warm || size >= warmStep {
		return
	}
	from := max(q.warm, q.filled)
	q.warm = min(end+warmStep, ChunkSize)
	clear(q.tail.B[from:q.warm])
}

// setTailLocked makes chunk, which may be nil, the one that is filled.
func (q *Queue) setTailLocked(chunk *buffers.Buffer) {
	if q.tail != nil && q.tail.Refs == 0 {
		buffers.Put(q.tail)
	}
	q.tail, q.filled, q.warm, q.open = chunk, 0, 0, false
}

// removeLocked takes n segments from i on out of list, and gives back their chunks if nothing else is there.
func (q *Queue) removeLocked(list *segmentList, i, n int) {
	if n == 0 {
		return
	}
	for _, seg := range list.segs[i : i+n] {
		if seg.chunk.Refs--; seg.chunk.Refs > 0 {
			continue
		}
		if seg.chunk == q.tail {
			q.filled, q.warm = 0, 0 // Fill it again while it is in the cache.
		} else {
			buffers.Put(seg.chunk)
		}
	}
	list.remove(i, n)
	q.open = q.open && len(q.waiting.segs) > 0
}
