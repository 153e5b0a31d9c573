// SPDX-License-Identifier: Apache-2.0

// Package queue is the bounded queue of a sender. Producers append messages, and the send loop
// takes batches of frames. When a connection ends, the queue returns to the start of the frame that
// was only written in part. The package does not use sockets.
package queue

// This file has the queue itself: framed messages in pooled chunks. push.go enqueues messages.
// take.go takes batches and marks them as written. wait.go and flush.go have the two lists of
// waiting goroutines. drop.go, acks.go and end.go remove messages in other ways.

import (
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/latency"
	"github.com/udsipc/udsipc/internal/wire"
)

// ChunkSize is the size of the pooled chunks. It is large enough that the cost of a chunk is small
// beside its system call. It is small enough that a few chunks stay in a second-level cache.
const ChunkSize = 64 << 10

// A chunk is a pooled buffer of exactly its size, and it is warmed in whole steps. A constant of
// type uint64 cannot be negative: a line whose condition is false does not compile.
const (
	_ = uint64(0 - ChunkSize&(ChunkSize-1))
	_ = uint64(buffers.MaxSize - ChunkSize)
	_ = uint64(0 - ChunkSize%warmStep)
)

// warmStep is the number of bytes that warmLocked touches at once.
const warmStep = 4 << 10

// A Queue holds segments in the order in which their messages were accepted: front, then waiting.
//
//	front[:next]       written, and not acknowledged; none without acks
//	front[next:taken]  being written; only the send loop may touch them
//	front[taken:]      to be written again, also of an earlier process, or the rest of a partial write
//	waiting            never taken; the last one grows while open
//
// The current connection has taken writtenBytes bytes of front[next], and writtenFrames whole
// frames with them.
type Queue struct {
	maxMessages, maxBytes uint64
	dropOldest            bool
	acks                  bool
	maxAge                time.Duration
	startTime             time.Time
	wake                  chan struct{}               // One slot; wakes the send loop.
	spareWaiters          chan *fifoElement[producer] // Elements of producers, for reuse.

	gate sync.Mutex // Held while a producer waits for mu.

	mu sync.Mutex // Guards what follows.

	// What each message changes comes first: with several producers, these cache lines travel between
	// the processors.
	senderIdle bool // The send loop waits for wake. Without a send loop: no goroutine sends.
	closed     bool // No more messages are accepted.
	open       bool
	filled     int
	warm       int             // The end of the part of tail that was warmed.
	tail       *buffers.Buffer // The chunk that is being filled: tail.b[:filled] is used.
	waiting    segmentList
	largest    uint64 // The largest message that was ever accepted.
	counts     queueCounts

	producers     fifo[producer]
	reserved      uint64 // Messages with reserved room that are being copied outside the lock,
	reservedBytes uint64 // and the bytes of their frames.
	shared        *SharedLimit
	spaceFreed    chan struct{} // Closed when there is room; nil when no goroutine waits for it.
	turns         turns
	pacing        pacing

	front                  segmentList
	next                   int
	taken                  int
	writtenBytes           int
	writtenFrames          int
	sentBytes              int    // The bytes of front[:next].
	releasedInFirst        int    // Messages of front[0] that have left the queue; their memory has not.
	earlyAck               uint64 // An acknowledgement for messages that are being written.
	seq                    sequence
	resumed                resumption
	controlFrom, controlTo uint64 // The last run of messages of EnqueueControl.
	readerLimit            uint64 // The largest message that the reader accepts; 0: not known.
	ackTimes               latency.Histogram
	fullErrs               fullErrs
	dropErr                error // The limit that OverflowDropOldest has met last; nil before.
	notifyIdle             bool  // A goroutine waits until none sends (WaitIdle).
	discarded              bool  // The remaining messages were removed.

	charged      int64 // The part of shared.used that this queue holds.
	inSharedList bool  // The queue is in shared.waiters.

	flushers    fifo[flusher] // In the order of their targets.
	expiryTimer *time.Timer   // Drops expired messages; with maxAge only.
	timerSet    bool
	onIdle      func()
	loans       lender
}

// queueCounts count what became of each message: accepted = sent + dropped + expired + undelivered
// + queued.
type queueCounts struct {
	Accepted, Refused                   uint64
	Sent, Dropped, Expired, Undelivered uint64
	Queued, QueuedBytes                 uint64        // Set by ReadCounts only.
	OldestAge                           time.Duration // How long the oldest message is queued; set by Snapshot only.
	Unacknowledged, Retransmitted       uint64        // Unacknowledged is set by ReadCounts only.
	DroppedControl                      uint64        // The part of Dropped that DropControl dropped.
}

// Limits configure a queue.
type Limits struct {
	Messages, Bytes uint64
	MaxAge          time.Duration // Older messages are dropped; 0: no limit.
	DropOldest      bool          // A full queue drops old messages to make room for a new one.
	Acks            bool          // Messages stay until they are acknowledged.
	BytesAlone      bool          // Producers that are paced are not limited by Messages.
	Undrained       bool          // There is no send loop: the first Enqueue finds the queue idle.
	Shared          *SharedLimit  // A limit that several queues share; may be nil.
	First, Sent     uint64        // With acks: those of an identity that goes on (resume.go); else 0.
}

// New returns an empty queue.
func New(limits Limits) *Queue {
	q := &Queue{
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
		pacing:       pacing{bytesAlone: limits.BytesAlone, unacked: unackedBytes},
	}
	if limits.First > 0 {
		q.resume(limits.First, limits.Sent)
	}
	return q
}

// Ready returns the channel that wakes the send loop. It has one slot.
func (q *Queue) Ready() <-chan struct{} { return q.wake }

// OnIdle sets a function that EnqueueAndWake calls in place of Signal. It is called before the first message.
func (q *Queue) OnIdle(wake func()) { q.onIdle = wake }

func (q *Queue) wakeSender() {
	if q.onIdle != nil {
		q.onIdle()
	} else {
		q.Signal()
	}
}

// Signal wakes the send loop. If the loop does not wait now, its next wait ends at once.
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

// appendLocked appends a message that fits. If own is not nil, it is a chunk that already holds the
// frame.
func (q *Queue) appendLocked(data []byte, size int, own *buffers.Buffer, now time.Duration) {
	q.counts.Accepted++
	q.largest = max(q.largest, uint64(len(data)))
	if own == nil && size > ChunkSize/2 && q.tail != nil && q.filled+size > ChunkSize {
		own = buffers.Get(size) // The rest of the tail stays in use for smaller messages.
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
	q.appendChunkLocked(chunk, from, size, 1, now)
	q.open = own == nil && len(q.waiting.segs) > 0
}

// appendChunkLocked appends a segment for the frames of the count messages that were accepted last.
// The segment may be in front afterwards.
func (q *Queue) appendChunkLocked(chunk *buffers.Buffer, from, size, count int, now time.Duration) {
	chunk.Refs++
	if q.maxAge == 0 {
		now = time.Since(q.startTime)
	}
	q.waiting.add(segment{
		chunk: chunk, from: from, to: from + size, count: count,
		first: q.counts.Accepted - uint64(count) + 1, queuedAt: now,
	})
	if q.resumed.sentBefore > 0 {
		q.keepSentBeforeLocked(uint64(count))
	}
	q.setExpiryTimerLocked(now)
}

// warmLocked brings the bytes after the end of the tail into the cache of this processor, one step
// at a time: another processor read them last. Otherwise each message would wait for its own few
// cache lines when the lock is released, and messages of 128 B would cost three times as much
// (docs/PERFORMANCE.md). A run of plain stores waits for all of its lines at once. While producers
// write, the tail is in the cache already.
func (q *Queue) warmLocked(size int) {
	end := q.filled + size
	if end <= q.warm || size >= warmStep || q.turns.offered {
		return
	}
	from := max(q.warm, q.filled)
	q.warm = min(end+warmStep, ChunkSize)
	clear(q.tail.B[from:q.warm])
}

// setTailLocked makes chunk the one that is filled. It may be nil.
func (q *Queue) setTailLocked(chunk *buffers.Buffer) {
	if q.tail != nil && q.tail.Refs == 0 {
		buffers.Put(q.tail)
	}
	q.tail, q.filled, q.warm, q.open = chunk, 0, 0, false
}

// removeLocked removes n segments from list, starting at i. It releases the chunks that no other
// segment uses.
func (q *Queue) removeLocked(list *segmentList, i, n int) {
	if n == 0 {
		return
	}
	for _, seg := range list.segs[i : i+n] {
		if seg.loan != nil {
			q.returnLoanLocked(seg.loan)
			continue
		}
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
