// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the far end of the queue: what is taken to be written, what the kernel has taken of
// it, and what a lost connection leaves.

import "time"

// take appends to bufs what is to be written next, about limit bytes, never more slices than bufs
// has room for. They stay untouched until written is called. Nothing there means that the caller
// should wait for wake.
func (q *queue) take(bufs [][]byte, limit int) [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.nowLocked()
	if q.expireLocked(now) {
		q.leftLocked()
	}
	part := q.part
	q.taken = q.next
	for bytes := 0; bytes < limit && len(bufs) < cap(bufs); {
		list, i := &q.front, q.taken
		if i == len(list.segs) {
			list, i = &q.waiting, 0
		}
		if i == len(list.segs) {
			break
		}
		to := q.allowedLocked(&list.segs[i])
		if to == list.segs[i].from+part {
			break
		}
		if list == &q.waiting {
			q.forwardLocked()
		}
		seg := &q.front.segs[q.taken]
		bufs = append(bufs, seg.chunk.b[seg.from+part:to])
		bytes += to - seg.from
		part = 0
		seg.sentAt = now
		q.taken++
		if to < seg.to {
			break
		}
	}
	q.restLocked()
	return bufs
}

// forwardLocked moves the first segment that waits to the front.
func (q *queue) forwardLocked() {
	q.front.add(q.waiting.segs[0])
	q.waiting.remove(0, 1)
	q.open = q.open && len(q.waiting.segs) > 0
}

// nowLocked is the time since the epoch, if that is of interest.
func (q *queue) nowLocked() time.Duration {
	if q.maxAge == 0 && !q.acks {
		return 0
	}
	return time.Since(q.epoch)
}

// ageLocked is the time since the epoch, if messages age.
func (q *queue) ageLocked() time.Duration {
	if q.maxAge == 0 {
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
	q.sleeping = q.next == len(q.front.segs) && len(q.waiting.segs) == 0
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
		seg := &q.front.segs[q.next]
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
	q.armLocked(q.ageLocked()) // What was not taken whole may be too old soon.
	return messages, err
}

// releaseLocked lets the messages up to this number leave the queue as delivered. The memory of a
// segment goes with its last message: to look for the end of one in the middle takes a walk over what
// has long left the processor's cache.
func (q *queue) releaseLocked(number uint64) {
	now := q.nowLocked()
	left := number - q.seq.acked
	q.counts.sent += left
	q.seq.acked = number
	done := 0
	for left > 0 {
		seg := &q.front.segs[done]
		count := min(left, uint64(seg.count-q.spent))
		if q.acks {
			q.ackTimes.add(now-seg.sentAt, count)
		}
		left -= count
		if q.spent += int(count); q.spent == seg.count {
			q.spent = 0
			done++
		}
	}
	q.next = max(0, q.next-done)
	q.taken = max(0, q.taken-done)
	q.removeLocked(&q.front, 0, done)
	q.leftLocked()
}

// trimLocked removes the messages that have left the first segment from its memory as well.
func (q *queue) trimLocked() {
	if q.spent == 0 {
		return
	}
	seg := &q.front.segs[0]
	size := framesSize(seg.chunk.b[seg.from:seg.to], q.spent)
	if q.next == 0 && q.part > 0 {
		q.part -= size
		q.partCount -= q.spent
	}
	q.front.forget(0, q.spent, size)
	q.spent = 0
	q.leftLocked() // Their bytes have left now.
}

// rewind forgets what a lost connection took. It returns the number and the size of the first message if the
// connection had taken some of it, or 0.
func (q *queue) rewind() (partial, size uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	partial, size = q.rewindLocked()
	q.armLocked(q.ageLocked()) // What was under way may be too old soon.
	return partial, size
}

func (q *queue) rewindLocked() (partial, size uint64) {
	q.trimLocked()
	if q.part > 0 {
		partial = q.front.segs[q.next].first
		data, _ := q.front.message(q.next)
		size = uint64(len(data))
	}
	q.next, q.taken, q.part, q.partCount, q.early = 0, 0, 0, 0, 0
	q.seq.sent = q.seq.acked
	return partial, size
}
