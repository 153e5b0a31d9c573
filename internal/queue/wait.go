// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"github.com/udsipc/udsipc/internal/errdefs"
)

// This file has the producers that wait for room, first come, first served. They are served
// whenever messages leave the queue for any reason, and when the queue is closed.

// maxSpareWaiters is how many elements of waiting producers a queue keeps for reuse.
const maxSpareWaiters = 16

// A fifo is a linked list of waiting goroutines. An element can leave it from any position.
type fifo[T any] struct{ first, last *fifoElement[T] }

// A fifoElement is one waiting goroutine.
type fifoElement[T any] struct {
	prev, next *fifoElement[T]
	value      T
}

// A producer waits for room for one message or a batch. The goroutine that frees the room enqueues a
// small message, and reserves the room otherwise.
type producer struct {
	data   []byte        // The caller's slice, for one message; the caller waits meanwhile.
	batch  bool          // The producer enqueues a batch.
	count  uint64        // Messages.
	size   int           // Of their frames.
	done   chan struct{} // One slot; filled once result is set.
	result enqueueResult
}

// An enqueueResult is the outcome of a wait for room.
type enqueueResult struct {
	number uint64 // The sequence number; 0 if room is reserved and the message still has to be copied.
	idle   bool   // No goroutine sends: the producer must.
	err    error
}

func (l *fifo[T]) pushBack(p *fifoElement[T]) {
	p.prev, p.next = l.last, nil
	if l.last == nil {
		l.first = p
	} else {
		l.last.next = p
	}
	l.last = p
}

func (l *fifo[T]) remove(p *fifoElement[T]) {
	if p.prev == nil {
		l.first = p.next
	} else {
		p.prev.next = p.next
	}
	if p.next == nil {
		l.last = p.prev
	} else {
		p.next.prev = p.prev
	}
	p.prev, p.next = nil, nil
}

// addProducerLocked appends a producer that waits for room for data, a single message.
func (q *Queue) addProducerLocked(data []byte, size int) *fifoElement[producer] {
	var p *fifoElement[producer]
	select {
	case p = <-q.spareWaiters:
	default:
		p = &fifoElement[producer]{value: producer{done: make(chan struct{}, 1)}}
	}
	p.value.data, p.value.batch, p.value.count, p.value.size = data, false, 1, size
	q.producers.pushBack(p)
	return p
}

// recycleProducer keeps the element of a producer for reuse.
func (q *Queue) recycleProducer(p *fifoElement[producer]) {
	p.value.data, p.value.result = nil, enqueueResult{}
	select {
	case q.spareWaiters <- p:
	default:
	}
}

// removeProducer removes a producer that stops waiting, and returns what it has waited for. It
// returns nil if the producer was served meanwhile.
func (q *Queue) removeProducer(p *fifoElement[producer]) (full error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.stopPacingLocked() // A message that fits is not refused because of pacing.
	if len(p.value.done) > 0 {
		return nil
	}
	full = q.fullErrLocked(p.value.count, p.value.size)
	q.producers.remove(p)
	q.counts.Refused += p.value.count
	q.serveWaitersLocked() // The next one may need less room.
	return full
}

// NotifySpace returns nil if the queue is below its limits. Otherwise it returns a channel that is
// closed once the queue is closed, or has room that no waiting producer has taken.
func (q *Queue) NotifySpace() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.producers.first != nil {
		q.stopPacingLocked() // Their messages come first, and must not be late because of pacing.
	}
	if q.hasSpaceLocked() || q.addSharedWaiterLocked(1, 1) && q.hasSpaceLocked() {
		q.removeSharedWaiterLocked()
		return nil
	}
	if q.spaceFreed == nil {
		q.spaceFreed = make(chan struct{})
	}
	return q.spaceFreed
}

func (q *Queue) hasSpaceLocked() bool {
	return q.closed || q.producers.first == nil && q.fitsLocked(1, 1)
}

// serveWaitersLocked serves the goroutines that wait for room or for a flush. It is called whenever
// a message leaves the queue, or a producer leaves the line.
func (q *Queue) serveWaitersLocked() {
	if q.shared != nil {
		q.chargeLocked()
	}
	if q.producers.first != nil {
		q.serveProducersLocked()
	}
	if q.spaceFreed != nil && (q.hasSpaceLocked() ||
		q.producers.first == nil && q.addSharedWaiterLocked(1, 1) && q.hasSpaceLocked()) {
		close(q.spaceFreed)
		q.spaceFreed = nil
	}
	if q.inSharedList {
		q.removeSharedWaiterLocked()
	}
	passed := q.removedThroughLocked()
	for f := q.flushers.first; f != nil && f.value.target <= passed; f = q.flushers.first {
		q.flushers.remove(f)
		close(f.value.done)
	}
}

// serveProducersLocked enqueues the messages of waiting producers in order, while they fit. For a
// batch, or a message larger than a chunk, it reserves the room; the producer enqueues it.
func (q *Queue) serveProducersLocked() {
	if q.pausesLocked() {
		return
	}
	now := q.ageLocked()
	for p := q.producers.first; p != nil; p = q.producers.first {
		w := &p.value
		switch {
		case q.closed:
			w.result.err = errdefs.ErrStopped
		case q.pacesLocked(w.size):
			return
		case !q.fitsPacedLocked(w.size) && !q.makeSpaceLocked(w.count, w.size, now) &&
			!(q.addSharedWaiterLocked(w.count, w.size) && q.makeSpaceLocked(w.count, w.size, now)):
			return
		case w.batch || w.size > ChunkSize:
			q.reserveLocked(w.count, w.size)
		default:
			q.appendLocked(w.data, w.size, nil, now)
			q.chargeLocked()
			w.result.number = q.counts.Accepted
			w.result.idle, q.senderIdle = q.senderIdle, false
		}
		q.producers.remove(p)
		w.done <- struct{}{}
	}
}
