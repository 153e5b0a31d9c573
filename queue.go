// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the bounded queue between the goroutines that write messages and the one that drains
// them: framed messages in pooled chunks, taken in batches, put back from a frame boundary when a
// connection broke. It knows no sockets and starts no goroutines.

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// chunkSize is the size of the pooled chunks: large enough that a chunk is a small share of its
// system call, small enough that a few of them stay in a processor's second-level cache.
const chunkSize = 64 << 10

// warmStep is how far ahead of its end a chunk is touched.
const warmStep = 4 << 10

// An OverflowPolicy says what WriteMessage does when the queue is at one of its bounds.
type OverflowPolicy int

// The policies of WithOverflow.
const (
	OverflowRefuse     OverflowPolicy = iota // Return ErrBufferFull at once; the default.
	OverflowBlock                            // Wait until there is room, or until Stop.
	OverflowDropOldest                       // Drop the oldest messages that are not being written.
)

func (p OverflowPolicy) String() string {
	switch p {
	case OverflowRefuse:
		return "refuse"
	case OverflowBlock:
		return "block"
	case OverflowDropOldest:
		return "drop oldest"
	}
	return fmt.Sprintf("OverflowPolicy(%d)", int(p))
}

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
	sleeping  bool          // The drain goroutine waits for wake.
	closed    bool          // No message is accepted any more.
	sealed    bool          // What was left was taken out.
	room      chan struct{} // Closed when there is room again; nil when nobody waits.
	flushers  []flusher
}

// A sequence numbers messages in the order in which they are first sent, so that one that is dropped
// before that leaves no gap: the number that a reader has to know them by.
type sequence struct {
	acked   uint64 // All up to here have left the queue.
	sent    uint64 // All up to here are with the present connection, to their last byte.
	highest uint64 // All up to here were with some connection.
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

// push copies data into the queue, or returns ErrBufferFull, ErrMessageTooLarge or ErrStopped.
func (q *queue) push(data []byte) error {
	own := ownChunk(data)
	q.lock()
	err := q.offerLocked(data, own)
	if err == ErrBufferFull {
		q.counts.refused++
	}
	q.unlockAndWake(err)
	if err != nil {
		putBuffer(own)
	}
	return err
}

// pushWait is push, but waits for room until ctx ends.
func (q *queue) pushWait(ctx context.Context, data []byte) error {
	own := ownChunk(data)
	for {
		q.lock()
		err := q.offerLocked(data, own)
		if err != ErrBufferFull {
			q.unlockAndWake(err)
			if err != nil {
				putBuffer(own)
			}
			return err
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()

		select {
		case <-room:
		case <-ctx.Done():
			putBuffer(own)
			q.mu.Lock()
			q.counts.refused++
			q.mu.Unlock()
			return fmt.Errorf("%w: %w", ErrBufferFull, context.Cause(ctx))
		}
	}
}

// lock is for producers: with several, to try for a moment costs less than to be put to sleep, because
// the lock is held for no longer than a copy takes.
func (q *queue) lock() {
	for range 30 {
		if q.mu.TryLock() {
			return
		}
	}
	q.mu.Lock()
}

// unlockAndWake ends a push. The wake-up stands outside the lock, which the woken goroutine needs.
func (q *queue) unlockAndWake(err error) {
	wake := err == nil && q.sleeping
	if wake {
		q.sleeping = false
	}
	q.mu.Unlock()
	if wake {
		q.signal()
	}
}

// ownChunk frames a message that is larger than a chunk, outside the lock; nil for all others.
func ownChunk(data []byte) *buffer {
	size := frameSize(len(data))
	if size <= chunkSize {
		return nil
	}
	own := getBuffer(size)
	appendFrame(own.b[:0], data)
	return own
}

// offerLocked appends data if the bounds allow it, and makes room first where the options say so.
func (q *queue) offerLocked(data []byte, own *buffer) error {
	if q.closed {
		return ErrStopped
	}
	size := frameSize(len(data))
	if uint64(size) > q.maxBytes {
		return fmt.Errorf("%w: %d bytes in a queue of %d (WithMaxBufferedBytes)", ErrMessageTooLarge, size, q.maxBytes)
	}
	var now time.Duration
	if q.maxAge > 0 {
		now = time.Since(q.epoch)
	}
	if !q.fitsLocked(size) && !q.makeRoomLocked(size, now) {
		return ErrBufferFull
	}
	q.appendLocked(data, size, own, now)
	return nil
}

func (q *queue) fitsLocked(size int) bool {
	return q.counts.queued < q.maxMessages && q.counts.queuedBytes+uint64(size) <= q.maxBytes
}

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
	if full := len(q.segs) == cap(q.segs); full && 2*len(q.segs) <= cap(q.store) {
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

// grain is how far apart the messages of one segment may be in time: a message is dropped for its
// age at most that much too early.
func (q *queue) grain() time.Duration {
	return min(q.maxAge/64, time.Millisecond)
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

// notifyLocked wakes those who wait for room or for a flush. Room means a quarter of the bounds, so that
// a blocked producer is woken once for many messages, and early enough that the rest lasts until it
// is awake.
func (q *queue) notifyLocked() {
	if q.room != nil && (q.closed || q.counts.queued <= q.maxMessages-q.maxMessages/4 && q.counts.queuedBytes <= q.maxBytes-q.maxBytes/4) {
		close(q.room)
		q.room = nil
	}
	q.flushers = slices.DeleteFunc(q.flushers, func(f flusher) bool {
		flushed := len(q.segs) == 0 || q.segs[0].first > f.target
		if flushed {
			close(f.done)
		}
		return flushed
	})
}
