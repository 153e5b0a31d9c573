// SPDX-License-Identifier: Apache-2.0

package queue

import (
	"github.com/udsipc/udsipc/internal/errdefs"
)

// This file is who waits for room in the queue: in line, first come first served. Whatever can end a wait looks at the
// line: what leaves the queue for any reason, the time, and the end.

// maxSpareWaiters is how many places of producers a queue keeps to use them again.
const maxSpareWaiters = 16

// A fifo is those who wait. Whoever does not wait any longer leaves it from where it is.
type fifo[T any] struct{ first, last *fifoElement[T] }

// A fifoElement is somebody in a line.
type fifoElement[T any] struct {
	prev, next *fifoElement[T]
	value      T
}

// A producer waits for room for one message. The one who makes room serves it.
type producer struct {
	data   []byte        // Its caller's, who waits.
	size   int           // Of the frame.
	done   chan struct{} // One slot: the rest is set.
	result enqueueResult
}

// An enqueueResult is what became of a message.
type enqueueResult struct {
	number uint64 // Its number; 0 if there is room for it, and it has to be copied yet.
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

// addProducerLocked waits in line for room for data.
func (q *Queue) addProducerLocked(data []byte, size int) *fifoElement[producer] {
	var p *fifoElement[producer]
	select {
	case p = <-q.spareWaiters:
	default:
		p = &fifoElement[producer]{value: producer{done: make(chan struct{}, 1)}}
	}
	p.value.data, p.value.size = data, size
	q.producers.pushBack(p)
	return p
}

// recycleProducer keeps a place that its producer has left.
func (q *Queue) recycleProducer(p *fifoElement[producer]) {
	p.value.data, p.value.result = nil, enqueueResult{}
	select {
	case q.spareWaiters <- p:
	default:
	}
}

// removeProducer is for a producer that does not wait any longer. It says no if it was served meanwhile.
func (q *Queue) removeProducer(p *fifoElement[producer]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(p.value.done) > 0 {
		return false
	}
	q.producers.remove(p)
	q.counts.Refused++
	q.serveWaitersLocked() // The next one may need less room.
	return true
}

// NotifySpace returns nil if the queue is below its bounds, and otherwise a channel that is closed
// once there is room that nobody in line has taken, or the queue is closed.
func (q *Queue) NotifySpace() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.hasSpaceLocked() || q.addSharedWaiterLocked(1) && q.hasSpaceLocked() {
		q.removeSharedWaiterLocked()
		return nil
	}
	if q.spaceFreed == nil {
		q.spaceFreed = make(chan struct{})
	}
	return q.spaceFreed
}

func (q *Queue) hasSpaceLocked() bool { return q.closed || q.producers.first == nil && q.fitsLocked(1) }

// serveWaitersLocked is called whenever something has left the queue, or the line for room: it serves those who
// waited for it.
func (q *Queue) serveWaitersLocked() {
	if q.shared != nil {
		q.chargeLocked()
	}
	if q.producers.first != nil {
		q.serveProducersLocked()
	}
	if q.spaceFreed != nil && (q.hasSpaceLocked() ||
		q.producers.first == nil && q.addSharedWaiterLocked(1) && q.hasSpaceLocked()) {
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

// serveProducersLocked puts the messages of those who wait for room into the queue, one after the other, as long as
// they fit. A message larger than a chunk is promised its room, and copied outside the lock.
func (q *Queue) serveProducersLocked() {
	now := q.ageLocked()
	for p := q.producers.first; p != nil; p = q.producers.first {
		w := &p.value
		switch {
		case q.closed:
			w.result.err = errdefs.ErrStopped
		case !q.makeSpaceLocked(w.size, now) && !(q.addSharedWaiterLocked(w.size) && q.makeSpaceLocked(w.size, now)):
			return
		case w.size > ChunkSize:
			q.reserveLocked(w.size)
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
