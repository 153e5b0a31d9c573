// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the far end of the queue: what is taken to be written, what the kernel has taken of
// it, and what is left at the end.

import (
	"fmt"
	"slices"
	"time"
)

// take appends to bufs what is to be written next, about limit bytes, never more slices than bufs
// has room for. They stay untouched until written is called. Nothing there means that the caller
// should wait for wake.
func (q *queue) take(bufs [][]byte, limit int) [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.nowLocked()
	q.expireLocked(now)
	part := q.part
	q.taken = q.next
	for bytes := 0; q.taken < len(q.segs) && bytes < limit && len(bufs) < cap(bufs); {
		seg := &q.segs[q.taken]
		to := q.allowedLocked(seg)
		if to == seg.from+part {
			break
		}
		bufs = append(bufs, seg.chunk.b[seg.from+part:to])
		bytes += to - seg.from
		part = 0
		seg.sentAt = now
		q.taken++
		if to < seg.to {
			break
		}
	}
	q.touched = max(q.touched, q.taken)
	if q.taken == len(q.segs) {
		q.open = false
	}
	q.restLocked()
	return bufs
}

// nowLocked is the time since the epoch, if that is of interest.
func (q *queue) nowLocked() time.Duration {
	if q.maxAge == 0 && !q.acks {
		return 0
	}
	return time.Since(q.epoch)
}

// allowedLocked is how far seg may be written: up to its first message over the reader's limit.
func (q *queue) allowedLocked(seg *segment) int {
	if q.limit == 0 || q.largest <= q.limit {
		return seg.to
	}
	to := seg.from
	for to < seg.to {
		length, header, _ := parseHeader(seg.chunk.b[to:seg.to])
		if length > q.limit {
			break
		}
		to += header + int(length)
	}
	return to
}

// restLocked makes the next push wake the drain goroutine, if there is nothing to write.
func (q *queue) restLocked() {
	q.sleeping = q.next == len(q.segs)
	if q.sleeping && q.watched {
		q.signal()
	}
	if q.sleeping && q.tail != nil && q.tail.refs == 0 {
		q.setTailLocked(nil)
	}
}

// reserve waits until the goroutine that drains has found nothing more, or has given up, which failed says. From then on
// nobody is told to drain, until take finds nothing again.
func (q *queue) reserve(failed <-chan struct{}) {
	for {
		q.mu.Lock()
		idle := q.sleeping
		q.sleeping, q.watched = false, !idle
		q.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-failed:
			q.mu.Lock()
			q.watched = false
			q.mu.Unlock()
			return
		case <-q.wake:
		}
	}
}

// written says that n bytes of what was taken are with the kernel. It returns how many messages that
// completes. Without acks those leave the queue as sent. The error is about an acknowledgement that
// came before its message was sent.
func (q *queue) written(n int) (messages int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken == 0 {
		return 0, nil // Sealed in the meantime: what was taken is accounted for.
	}
	q.part += n
	for q.part > 0 && q.next < q.taken {
		seg := &q.segs[q.next]
		size := seg.to - seg.from
		if q.part < size {
			count, _ := wholeFrames(seg.chunk.b[seg.from : seg.from+q.part])
			messages += count - q.partCount
			q.partCount = count
			break
		}
		messages += seg.count - q.partCount
		q.partCount = 0
		q.part -= size
		q.next++
	}
	q.taken = 0
	q.seq.sent += uint64(messages)
	q.seq.highest = max(q.seq.highest, q.seq.sent)
	switch {
	case !q.acks:
		q.releaseLocked(q.seq.sent)
		q.trimLocked() // A write that stopped midway is rare.
	case q.early > 0:
		early := q.early
		q.early = 0
		err = q.acknowledgeLocked(early)
	}
	return messages, err
}

// releaseLocked lets the messages up to this number leave the queue as delivered. The memory of a
// segment goes with its last message: to look for the end of one in the middle takes a walk over what
// has long left the processor's cache.
func (q *queue) releaseLocked(number uint64) {
	now := q.nowLocked()
	left := number - q.seq.acked
	q.counts.sent += left
	q.counts.queued -= left
	q.seq.acked = number
	done := 0
	for left > 0 {
		seg := &q.segs[done]
		count := min(left, uint64(seg.count-q.spent))
		if q.acks {
			q.ackTimes.add(now-seg.sentAt, count)
		}
		left -= count
		if q.spent += int(count); q.spent == seg.count {
			q.counts.queuedBytes -= uint64(seg.to - seg.from)
			q.spent = 0
			done++
		}
	}
	q.next = max(0, q.next-done)
	q.taken = max(0, q.taken-done)
	q.touched = max(0, q.touched-done)
	q.removeLocked(0, done)
	q.notifyLocked()
}

// trimLocked removes the messages that have left the first segment from its memory as well.
func (q *queue) trimLocked() {
	if q.spent == 0 {
		return
	}
	seg := &q.segs[0]
	size := framesSize(seg.chunk.b[seg.from:seg.to], q.spent)
	if q.next == 0 && q.part > 0 {
		q.part -= size
		q.partCount -= q.spent
	}
	q.counts.queued += uint64(q.spent) // They are forgotten a second time.
	q.forgetLocked(seg, q.spent, size)
	q.spent = 0
}

// rewind forgets what a lost connection took. It returns the number and the size of the first message if the
// connection had taken some of it, or 0.
func (q *queue) rewind() (partial, size uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trimLocked()
	if q.part > 0 {
		seg := &q.segs[q.next]
		partial = seg.first
		size, _, _ = parseHeader(seg.chunk.b[seg.from:seg.to])
	}
	q.next, q.taken, q.part, q.partCount, q.early = 0, 0, 0, 0, 0
	q.seq.sent = q.seq.acked
	return partial, size
}

// setAside removes the oldest message, as undelivered, and returns a copy of it.
func (q *queue) setAside() []byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.segs) == 0 {
		return nil
	}
	seg := &q.segs[0]
	length, header, _ := parseHeader(seg.chunk.b[seg.from:seg.to])
	data := slices.Clone(seg.chunk.b[seg.from+header:][:length])
	q.dropFrameLocked(0)
	q.counts.undelivered++
	q.notifyLocked()
	return data
}

// flushed returns a channel that is closed when every message accepted so far has left the queue.
func (q *queue) flushed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	f := flusher{target: q.counts.accepted, done: make(chan struct{})}
	q.flushers = append(q.flushers, f)
	q.notifyLocked()
	return f.done
}

// given returns an error if messages were given up.
func (q *queue) given() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.counts.undelivered > 0 {
		return fmt.Errorf("%w: %d messages were not sent", ErrStopped, q.counts.undelivered)
	}
	return nil
}

// passed returns the number of the last message that is not queued any more, nor any before it.
func (q *queue) passed() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.segs) == 0 {
		return q.counts.accepted
	}
	return q.segs[0].first + uint64(q.spent) - 1
}

// empty says whether nothing is queued, once what is stale is gone. If so, the next push wakes.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expireLocked(time.Since(q.epoch))
	q.restLocked()
	return len(q.segs) == 0
}

// snapshot returns the counters, all of one moment.
func (q *queue) snapshot() (queueCounts, Times) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expireLocked(time.Since(q.epoch))
	counts := q.counts
	if q.acks && !q.sealed {
		counts.unacknowledged = q.seq.sent - q.seq.acked
	}
	return counts, q.ackTimes.summary()
}

// close refuses further messages; those who wait for room get ErrStopped.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	q.notifyLocked()
	q.mu.Unlock()
}

// seal closes the queue and takes all that is left out of it, as undelivered. Each message is handed
// to visit, which may be nil and must not keep it. It returns how many there were. The chunks are not
// used again: a write that hangs may still read them.
func (q *queue) seal(visit func(data []byte)) (left uint64) {
	q.mu.Lock()
	q.closed = true
	q.trimLocked()
	segs := q.segs
	left = q.counts.queued
	q.counts.undelivered += left
	q.counts.queued, q.counts.queuedBytes = 0, 0
	q.segs, q.store, q.open, q.tail, q.sealed = nil, nil, false, nil, true
	q.next, q.taken, q.touched, q.part, q.partCount, q.early = 0, 0, 0, 0, 0, 0
	q.notifyLocked()
	q.mu.Unlock()
	if visit == nil {
		return left
	}
	for _, seg := range segs {
		for b := seg.chunk.b[seg.from:seg.to]; len(b) > 0; {
			length, header, _ := parseHeader(b)
			end := header + int(length)
			visit(b[header:end:end])
			b = b[end:]
		}
	}
	return left
}
