// SPDX-License-Identifier: Apache-2.0

package queue

// This file is the side of the send loop: it takes batches, marks the bytes that the kernel
// accepted, and returns to the start of a frame when the connection ends.

import (
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// NextBatch appends the bytes to write next to bufs: about limit bytes, and at most as many slices
// as bufs has room for. They do not change until MarkWritten. If nothing is added, the caller waits
// for Ready.
func (q *Queue) NextBatch(bufs [][]byte, limit int) [][]byte {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.nowLocked()
	if q.expireLocked(now) {
		q.serveWaitersLocked()
	}
	part := q.writtenBytes
	q.taken = q.next
	for bytes := 0; bytes < limit && len(bufs) < cap(bufs); {
		list, i := &q.front, q.taken
		if i == len(list.segs) {
			list, i = &q.waiting, 0
		}
		if i == len(list.segs) {
			break
		}
		to := q.sendableEndLocked(&list.segs[i])
		if to == list.segs[i].from+part {
			break
		}
		if list.segs[i].loan != nil && q.loans.interrupt == nil { // It is lent to an earlier connection.
			q.copyLoanLocked(&list.segs[i])
		}
		if list.segs[i].loan != nil && len(bufs)+2 > cap(bufs) { // It may be two slices.
			break
		}
		if list == &q.waiting {
			q.moveToFrontLocked()
		}
		seg := &q.front.segs[q.taken]
		var n int
		bufs, n = seg.appendTo(bufs, part, to, limit-bytes)
		bytes += n
		part += n
		seg.sentAt = now
		q.taken++
		if to < seg.to || part < seg.to-seg.from && seg.loan != nil {
			break
		}
		part = 0
	}
	if len(bufs) > 0 {
		q.markTakenLocked()
	}
	q.markIdleLocked()
	return bufs
}

// moveToFrontLocked moves the first segment of waiting to front.
func (q *Queue) moveToFrontLocked() {
	q.front.add(q.waiting.segs[0])
	q.waiting.remove(0, 1)
	q.open = q.open && len(q.waiting.segs) > 0
}

// nowLocked returns the time since startTime, or 0 if neither age nor acknowledgements need it.
func (q *Queue) nowLocked() time.Duration {
	if q.maxAge == 0 && !q.acks {
		return 0
	}
	return time.Since(q.startTime)
}

// ageLocked returns the time since startTime, or 0 if messages do not age.
func (q *Queue) ageLocked() time.Duration {
	if q.maxAge == 0 {
		return 0
	}
	return time.Since(q.startTime)
}

// sendableEndLocked returns the end of the part of seg that may be written. The first message over
// the reader's limit ends it.
func (q *Queue) sendableEndLocked(seg *segment) int {
	if q.readerLimit == 0 || q.largest <= q.readerLimit {
		return seg.to
	}
	to := seg.from
	if seg.loan != nil {
		if uint64(len(seg.loan.data)) <= q.readerLimit {
			to = seg.to
		}
		return to
	}
	for to < seg.to {
		length, header, _ := wire.ParsePrefix(seg.chunk.B[to:seg.to])
		if length > q.readerLimit {
			break
		}
		to += header + int(length)
	}
	return to
}

// markIdleLocked sets senderIdle if there is nothing to write: then the next message wakes the send
// loop.
func (q *Queue) markIdleLocked() {
	q.senderIdle = q.next == len(q.front.segs) && len(q.waiting.segs) == 0
	if q.senderIdle {
		q.turns.wanted = 0
	}
	if q.senderIdle && q.notifyIdle {
		q.Signal()
	}
	if q.senderIdle && q.tail != nil && q.tail.Refs == 0 {
		q.setTailLocked(nil)
	}
}

// PutBack undoes NextBatch: nothing was written.
func (q *Queue) PutBack() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.taken = 0
	q.returnWrittenLoansLocked()
	q.settleLoansLocked()
}

// MarkIdle makes the next message wake the send loop, if there is nothing to write. It reports whether that is so.
func (q *Queue) MarkIdle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.markIdleLocked()
	return q.senderIdle
}

// WaitIdle waits until the goroutine that sends has found nothing more, or until failed is closed.
// After that no call asks a goroutine to send, until NextBatch finds nothing again.
func (q *Queue) WaitIdle(failed <-chan struct{}) {
	for {
		q.mu.Lock()
		idle := q.senderIdle
		q.senderIdle, q.notifyIdle = false, !idle
		q.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-failed:
			q.mu.Lock()
			q.notifyIdle = false
			q.mu.Unlock()
			return
		case <-q.wake:
		}
	}
}

// MarkWritten records that the kernel accepted n bytes of the batch. It returns how many messages
// that completes. Without acknowledgements, those messages leave the queue as sent. The error
// concerns an acknowledgement that came while its message was being written.
func (q *Queue) MarkWritten(n int) (messages int, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.taken == 0 {
		q.returnWrittenLoansLocked()
		return 0, nil // DiscardAll has already counted the batch.
	}
	q.noteProgressLocked(n)
	q.writtenBytes += n
	for q.writtenBytes > 0 && q.next < q.taken {
		seg := &q.front.segs[q.next]
		size := seg.to - seg.from
		if q.writtenBytes < size && seg.loan != nil {
			break
		}
		if q.writtenBytes < size {
			count, _ := wire.WholeFrames(seg.chunk.B[seg.from : seg.from+q.writtenBytes])
			messages += count - q.writtenFrames
			q.writtenFrames = count
			break
		}
		messages += seg.count - q.writtenFrames
		q.writtenFrames = 0
		q.writtenBytes -= size
		q.sentBytes += size
		if seg.loan != nil {
			seg.loan.written = true
		}
		q.next++
	}
	q.taken = 0
	q.settleLoansLocked()
	q.seq.sent += uint64(messages)
	q.seq.HighestSent = max(q.seq.HighestSent, q.seq.sent)
	q.turns.bytes += uint64(n)
	q.turns.messages += uint64(messages)
	switch {
	case !q.acks:
		q.releaseLocked(q.seq.sent)
		q.trimLocked() // Writes that stop inside a segment are rare.
	case q.earlyAck == 0:
		q.serveWaitersLocked() // They may be paced by what is not written.
	default:
		early := q.earlyAck
		q.earlyAck = 0
		err = q.acknowledgeLocked(early)
	}
	q.setExpiryTimerLocked(q.ageLocked()) // A message that was not written whole may expire soon.
	return messages, err
}

// releaseLocked removes the messages up to this number as delivered. The memory of a segment is
// released with its last message. To find the end of a message inside a segment would mean reading
// bytes that have long left the cache.
func (q *Queue) releaseLocked(number uint64) {
	now := q.nowLocked()
	left := number - q.seq.Acked
	q.counts.Sent += left
	q.seq.Acked = number
	done := 0
	for left > 0 {
		seg := &q.front.segs[done]
		count := min(left, uint64(seg.count-q.releasedInFirst))
		if q.acks {
			q.ackTimes.Add(now-seg.sentAt, count)
		}
		left -= count
		if q.releasedInFirst += int(count); q.releasedInFirst == seg.count {
			q.releasedInFirst = 0
			if done < q.next {
				q.sentBytes -= seg.to - seg.from
			}
			done++
		}
	}
	q.next = max(0, q.next-done)
	q.taken = max(0, q.taken-done)
	q.removeLocked(&q.front, 0, done)
	q.serveWaitersLocked()
}

// trimLocked releases the memory of the messages of the first segment that have left the queue.
func (q *Queue) trimLocked() {
	if q.releasedInFirst == 0 {
		return
	}
	seg := &q.front.segs[0]
	size := wire.FramesSize(seg.chunk.B[seg.from:seg.to], q.releasedInFirst)
	if q.next > 0 {
		q.sentBytes -= size
	} else if q.writtenBytes > 0 {
		q.writtenBytes -= size
		q.writtenFrames -= q.releasedInFirst
	}
	q.front.trimFront(0, q.releasedInFirst, size)
	q.releasedInFirst = 0
	q.serveWaitersLocked() // There is room for their bytes now.
}

// Rewind returns to the first queued message after a connection is lost. If that connection took a
// part of this message, Rewind returns its number and size, otherwise 0.
func (q *Queue) Rewind() (partial, size uint64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	partial, size = q.rewindLocked()
	q.stopPacingLocked()
	q.pacing.unacked = unackedBytes
	q.setExpiryTimerLocked(q.ageLocked()) // A message that was in flight may expire soon.
	return partial, size
}

func (q *Queue) rewindLocked() (partial, size uint64) {
	q.trimLocked()
	if q.writtenBytes > 0 {
		partial = q.front.segs[q.next].first
		data, _ := q.front.message(q.next)
		size = uint64(len(data))
	}
	q.next, q.taken, q.sentBytes, q.writtenBytes, q.writtenFrames, q.earlyAck = 0, 0, 0, 0, 0, 0
	q.seq.sent = q.seq.Acked
	return partial, size
}
