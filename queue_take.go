// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the far end of the queue: what is taken to be written, what the kernel has taken of
// it, and what is left at the end.

import (
	"slices"
	"time"
)

// take appends to bufs what is to be written next, about limit bytes, never more slices than bufs
// has room for. They stay untouched until written is called. Nothing there means that the caller
// should wait for wake.
func (q *queue) take(bufs [][]byte, limit int) [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.maxAge > 0 {
		q.expireLocked(time.Since(q.epoch))
	}
	part := q.part
	for bytes := 0; q.taken < len(q.segs) && bytes < limit && len(bufs) < cap(bufs); q.taken++ {
		seg := &q.segs[q.taken]
		bufs = append(bufs, seg.chunk.b[seg.from+part:seg.to])
		bytes += seg.to - seg.from
		part = 0
	}
	if q.taken == len(q.segs) {
		q.open = false
	}
	q.restLocked()
	return bufs
}

// restLocked makes the next push wake the drain goroutine, if there is nothing to drain.
func (q *queue) restLocked() {
	if q.sleeping = len(q.segs) == 0; q.sleeping {
		q.setTailLocked(nil)
	}
}

// written says that n bytes of what was taken are with the kernel. It returns how many messages that
// completes; those leave the queue as sent.
func (q *queue) written(n int) (messages int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken == 0 {
		return 0 // Sealed in the meantime: what was taken is accounted for.
	}
	n += q.part
	done := 0
	for n > 0 {
		seg := &q.segs[done]
		if size := seg.to - seg.from; n >= size {
			messages += seg.count
			q.forgetLocked(seg, seg.count, size)
			n -= size
			done++
			continue
		}
		count, end := wholeFrames(seg.chunk.b[seg.from : seg.from+n])
		messages += count
		q.forgetLocked(seg, count, end)
		n -= end
		break
	}
	q.counts.sent += uint64(messages)
	q.part = n
	q.taken = 0
	q.removeLocked(0, done)
	q.notifyLocked()
	return messages
}

// rewind forgets what a lost connection took of the first message. It returns the number of that
// message if the connection had taken some of it, or 0.
func (q *queue) rewind() (partial uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.part > 0 {
		partial = q.segs[0].first
	}
	q.part = 0
	return partial
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

// empty says whether nothing is queued, once what is stale is gone. If so, the next push wakes.
func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expireLocked(time.Since(q.epoch))
	q.restLocked()
	return q.sleeping
}

// snapshot returns the counters, all of one moment.
func (q *queue) snapshot() queueCounts {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.expireLocked(time.Since(q.epoch))
	return q.counts
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
	segs := q.segs
	left = q.counts.queued
	q.counts.undelivered += left
	q.counts.queued, q.counts.queuedBytes = 0, 0
	q.segs, q.taken, q.part, q.open, q.tail = nil, 0, 0, false, nil
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
