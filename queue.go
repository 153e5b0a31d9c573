// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the bounded queue between the goroutines that write messages and the one that drains
// them: framed messages in pooled chunks, taken in batches, put back from a frame boundary when a
// connection broke. It knows no sockets and starts no goroutines.

import (
	"slices"
	"sync"
	"time"
)

// chunkSize is the size of the pooled chunks: large enough that a chunk is a small share of its
// system call, small enough that a few of them stay in a processor's second-level cache.
const chunkSize = 64 << 10

// warmStep is how far ahead of its end a chunk is touched.
const warmStep = 4 << 10

// A segment is a run of whole frames in one chunk: chunk.b[from:to].
type segment struct {
	chunk    *buffer
	from, to int
	count    int           // Frames in it, 1 or more.
	first    uint64        // The number of its first message; the first that was accepted is 1.
	at       time.Duration // When its first message came, since the queue's epoch; with maxAge only.
	sentAt   time.Duration // When it was last taken, since the epoch; with acks only.
}

// A queue holds segments in the order in which their messages were accepted:
//
//	segs[:next]         written, and not acknowledged; none without acks
//	segs[next:taken]    being written; only the drain goroutine may touch them
//	segs[taken:]        waiting; the last one grows while open
//
// Of segs[next] the present connection has taken part bytes, and partCount whole frames with them.
type queue struct {
	maxMessages, maxBytes uint64
	dropOldest            bool
	acks                  bool          // Messages stay until they are acknowledged.
	maxAge                time.Duration // 0: messages do not age.
	epoch                 time.Time
	wake                  chan struct{} // One slot: there is something to look at.

	mu        sync.Mutex // Guards what follows.
	segs      []segment
	store     []segment // The memory of segs, from its beginning.
	next      int
	taken     int
	part      int
	partCount int
	spent     int    // Messages of segs[0] that have left the queue, though not its memory.
	touched   int    // With acks, segs[:touched] were taken at least once.
	early     uint64 // An acknowledgement of what is being written.
	seq       sequence
	limit     uint64 // The largest message that the reader takes, 0 if that is not known.
	largest   uint64 // The largest message that was ever accepted.
	ackTimes  histogram
	open      bool
	tail      *buffer // The chunk that is being filled: tail.b[:filled] is used.
	filled    int
	warm      int // Up to where tail was touched.
	counts    queueCounts
	sleeping  bool          // The drain goroutine waits for wake; without one, nobody drains.
	watched   bool          // Somebody wants to know when nobody drains.
	closed    bool          // No message is accepted any more.
	sealed    bool          // What was left was taken out.
	room      chan struct{} // Closed when there is room again; nil when nobody waits.
	flushers  []flusher
}

// queueCounts say where each message is: accepted = sent + dropped + expired + undelivered + queued.
type queueCounts struct {
	accepted, refused                   uint64
	sent, dropped, expired, undelivered uint64
	queued, queuedBytes                 uint64
	unacknowledged, redelivered         uint64
}

// A flusher waits until no message up to target is queued.
type flusher struct {
	target uint64
	done   chan struct{}
}

func newQueue(maxMessages, maxBytes uint64, dropOldest, acks bool, maxAge time.Duration) *queue {
	return &queue{
		maxMessages: maxMessages,
		maxBytes:    maxBytes,
		dropOldest:  dropOldest,
		acks:        acks,
		maxAge:      maxAge,
		epoch:       time.Now(),
		wake:        make(chan struct{}, 1),
	}
}

// signal wakes the drain goroutine, now or when it next goes to sleep.
func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// appendLocked puts a message, which fits, at the end of the queue.
func (q *queue) appendLocked(data []byte, size int, own *buffer, now time.Duration) {
	q.counts.accepted++
	q.counts.queued++
	q.counts.queuedBytes += uint64(size)
	q.largest = max(q.largest, uint64(len(data)))
	if own != nil {
		own.refs = 1
		q.addLocked(segment{chunk: own, to: size, count: 1, first: q.counts.accepted, at: now})
		q.open = false
		return
	}
	if q.tail == nil || q.filled+size > chunkSize {
		q.setTailLocked(getBuffer(chunkSize))
	}
	q.warmLocked(size)
	from := q.filled
	q.filled = len(appendFrame(q.tail.b[:from], data))
	if q.open {
		last := &q.segs[len(q.segs)-1]
		if now-last.at <= q.grain() {
			last.to = q.filled
			last.count++
			return
		}
	}
	q.tail.refs++
	q.addLocked(segment{chunk: q.tail, from: from, to: q.filled, count: 1, first: q.counts.accepted, at: now})
	q.open = true
}

// addLocked appends seg, and first moves what there is to the beginning of its memory if that is half
// empty: so neither end costs more than it should, however long the queue is.
func (q *queue) addLocked(seg segment) {
	if full := len(q.segs) == cap(q.segs); full && 2*len(q.segs) < cap(q.store) {
		moved := append(q.store[:0], q.segs...)
		clear(moved[len(moved):cap(moved)])
		q.segs = append(moved, seg)
		return
	} else if full {
		q.segs = slices.Grow(q.segs, len(q.segs)+1)
		q.store = q.segs[:0]
	}
	q.segs = append(q.segs, seg)
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

// forgetLocked takes count frames of size bytes off the front of seg.
func (q *queue) forgetLocked(seg *segment, count, size int) {
	q.counts.queued -= uint64(count)
	q.counts.queuedBytes -= uint64(size)
	seg.from += size
	seg.count -= count
	seg.first += uint64(count)
}

// removeLocked takes n segments from i on out of the queue, and their chunks if nothing else is there.
func (q *queue) removeLocked(i, n int) {
	if n == 0 {
		return
	}
	for _, seg := range q.segs[i : i+n] {
		if seg.chunk.refs--; seg.chunk.refs > 0 {
			continue
		}
		if seg.chunk == q.tail {
			q.filled, q.warm = 0, 0 // Fill it again while it is in the cache.
		} else {
			putBuffer(seg.chunk)
		}
	}
	if i+n == len(q.segs) {
		q.open = false
	}
	if i > 0 {
		q.segs = slices.Delete(q.segs, i, i+n)
		return
	}
	clear(q.segs[:n])
	q.segs = q.segs[n:]
}

// notifyLocked wakes those who wait for room or for a flush. Room means a quarter of the bounds, so that
// a blocked producer is woken once for many messages, and early enough that the rest lasts until it
// is awake.
func (q *queue) notifyLocked() {
	if q.room != nil && (q.closed || q.counts.queued <= q.maxMessages-q.maxMessages/4 && q.counts.queuedBytes <= q.maxBytes-q.maxBytes/4) {
		close(q.room)
		q.room = nil
	}
	q.flushers = slices.DeleteFunc(q.flushers, func(f flusher) bool {
		flushed := len(q.segs) == 0 || q.segs[0].first+uint64(q.spent) > f.target
		if flushed {
			close(f.done)
		}
		return flushed
	})
}
