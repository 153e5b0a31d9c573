// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the bounded queue between the goroutines that write messages and the one that drains
// them: framed messages in pooled chunks, taken in batches, put back from a frame boundary when a
// connection broke. It knows no sockets and starts no goroutines.

import (
	"sync"
	"time"
)

// chunkSize is the size of the pooled chunks: large enough that a chunk is a small share of its
// system call, small enough that a few of them stay in a processor's second-level cache.
const chunkSize = 64 << 10

// A chunk is a pooled buffer of its very size, and is touched in whole steps. No constant of type uint64 is negative:
// each line is an error of the compiler if its condition is false.
const (
	_ = uint64(0 - chunkSize&(chunkSize-1))
	_ = uint64(maxBufferSize - chunkSize)
	_ = uint64(0 - chunkSize%warmStep)
)

// warmStep is how far ahead of its end a chunk is touched.
const warmStep = 4 << 10

// A queue holds segments in the order in which their messages were accepted: front, then waiting.
//
//	front[:next]       written, and not acknowledged; none without acks
//	front[next:taken]  being written; only the drain goroutine may touch them
//	front[taken:]      to be written again, or on: a connection broke, or took only a part
//	waiting            never taken; the last one grows while open
//
// Of front[next] the present connection has taken part bytes, and writtenFrames whole frames with them.
type queue struct {
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
	controlFrom, controlTo uint64 // The last run of messages of enqueueControl.
	readerLimit            uint64 // The largest message that the reader takes, 0 if that is not known.
	largest                uint64 // The largest message that was ever accepted.
	ackTimes               histogram
	open                   bool
	tail                   *buffer // The chunk that is being filled: tail.b[:filled] is used.
	filled                 int
	warm                   int // Up to where tail was touched.
	counts                 queueCounts
	senderIdle             bool // The drain goroutine waits for wake; without one, nobody drains.
	notifyIdle             bool // Somebody wants to know when nobody drains.
	closed                 bool // No message is accepted any more.
	discarded              bool // What was left was taken out.

	shared       *sharedLimit
	charged      int64 // Of shared.used.
	inSharedList bool  // It waits for others to get smaller.

	reserved      uint64 // Messages that have room, and are being copied outside the lock,
	reservedBytes uint64 // and the bytes of their frames.
	producers     fifo[producer]
	spaceFreed    chan struct{} // Closed when there is room for anybody; nil when nobody asked.
	flushers      fifo[flusher] // In the order of their targets.
	expiryTimer   *time.Timer   // Has what is too old dropped; with maxAge only.
	timerSet      bool
}

// queueCounts say where each message is: accepted = sent + dropped + expired + undelivered + queued.
type queueCounts struct {
	accepted, refused                   uint64
	sent, dropped, expired, undelivered uint64
	queued, queuedBytes                 uint64 // In a snapshot only.
	unacknowledged, retransmitted       uint64 // The first in a snapshot only.
	droppedControl                      uint64 // Of dropped: messages about a connection that was lost.
}

// queueLimits are what a queue is made of.
type queueLimits struct {
	messages, bytes uint64
	maxAge          time.Duration // Older messages are dropped; 0: messages do not age.
	dropOldest      bool          // A full queue makes room for a new message.
	acks            bool          // Messages stay until they are acknowledged.
	undrained       bool          // No goroutine waits for ready: the first put finds the queue idle.
	shared          *sharedLimit  // What several queues hold together; nil without others.
}

func newQueue(limits queueLimits) *queue {
	return &queue{
		maxMessages:  limits.messages,
		maxBytes:     limits.bytes,
		dropOldest:   limits.dropOldest,
		acks:         limits.acks,
		maxAge:       limits.maxAge,
		startTime:    time.Now(),
		wake:         make(chan struct{}, 1),
		spareWaiters: make(chan *fifoElement[producer], maxSpareWaiters),
		senderIdle:   limits.undrained,
		shared:       limits.shared,
	}
}

// ready returns the channel that the drain goroutine waits for: it has one slot.
func (q *queue) ready() <-chan struct{} { return q.wake }

// signal wakes the drain goroutine, now or when it next goes to sleep.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// queuedLocked returns how many messages are queued.
func (q *queue) queuedLocked() uint64 {
	return uint64(q.front.count + q.waiting.count - q.releasedInFirst)
}

// queuedBytesLocked returns the bytes of all segments.
func (q *queue) queuedBytesLocked() uint64 { return uint64(q.front.bytes + q.waiting.bytes) }

// headLocked returns the list with the oldest segment; it is empty if the queue is.
func (q *queue) headLocked() *segmentList {
	if len(q.front.segs) > 0 {
		return &q.front
	}
	return &q.waiting
}

func (q *queue) emptyLocked() bool { return len(q.headLocked().segs) == 0 }

// appendLocked puts a message, which fits, at the end of the queue. One with a chunk of its own lies there
// already.
func (q *queue) appendLocked(data []byte, size int, own *buffer, now time.Duration) {
	q.counts.accepted++
	q.largest = max(q.largest, uint64(len(data)))
	if own == nil && size > chunkSize/2 && q.tail != nil && q.filled+size > chunkSize {
		own = getBuffer(size) // A new chunk would be half empty; the old one takes smaller ones.
		appendFrame(own.b[:0], data)
	}
	chunk, from := own, 0
	if own == nil {
		if q.tail == nil || q.filled+size > chunkSize {
			q.setTailLocked(getBuffer(chunkSize))
		}
		q.warmLocked(size)
		chunk, from = q.tail, q.filled
		q.filled = len(appendFrame(q.tail.b[:from], data))
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
	chunk.refs++
	q.waiting.add(segment{chunk: chunk, from: from, to: from + size, count: 1, first: q.counts.accepted, queuedAt: now})
	q.open = own == nil
	q.setExpiryTimerLocked(now)
}

// warmLocked brings the bytes behind the end of the tail into this processor's cache, a step at a
// time. They were last read by another one; without this, each message would wait for its own few
// cache lines when the lock is released, one message after the other, and 128 B cost three times as
// much (docs/PERFORMANCE.md). A run of plain stores waits for all of its lines at once.
func (q *queue) warmLocked(size int) {
	end := q.filled + size
	if end <= q.warm || size >= warmStep {
		return
	}
	from := max(q.warm, q.filled)
	q.warm = min(end+warmStep, chunkSize)
	clear(q.tail.b[from:q.warm])
}

// setTailLocked makes chunk, which may be nil, the one that is filled.
func (q *queue) setTailLocked(chunk *buffer) {
	if q.tail != nil && q.tail.refs == 0 {
		putBuffer(q.tail)
	}
	q.tail, q.filled, q.warm, q.open = chunk, 0, 0, false
}

// removeLocked takes n segments from i on out of list, and gives back their chunks if nothing else is there.
func (q *queue) removeLocked(list *segmentList, i, n int) {
	if n == 0 {
		return
	}
	for _, seg := range list.segs[i : i+n] {
		if seg.chunk.refs--; seg.chunk.refs > 0 {
			continue
		}
		if seg.chunk == q.tail {
			q.filled, q.warm = 0, 0 // Fill it again while it is in the cache.
		} else {
			putBuffer(seg.chunk)
		}
	}
	list.remove(i, n)
	q.open = q.open && len(q.waiting.segs) > 0
}
