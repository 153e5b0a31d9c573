// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is who waits for the queue: for room, or for messages to leave it. Both wait in line, first come
// first served. Whatever can end a wait looks at the line: what leaves the queue for any reason, the time,
// and the end.

import (
	"context"
	"time"
)

// maxSpareWaiters is how many places of producers a queue keeps to use them again.
const maxSpareWaiters = 16

// minExpiry is the least time between two looks for messages that are too old.
const minExpiry = time.Millisecond

// A line is those who wait. Whoever does not wait any longer leaves it from where it is.
type line[T any] struct{ first, last *place[T] }

// A place is somebody in a line.
type place[T any] struct {
	prev, next *place[T]
	who        T
}

// A producer waits for room for one message. The one who makes room serves it.
type producer struct {
	data   []byte        // Its caller's, who waits.
	size   int           // Of the frame.
	served chan struct{} // One slot: the rest is set.
	result putResult
}

// A putResult is what became of a message.
type putResult struct {
	number uint64 // Its number; 0 if there is room for it, and it has to be copied yet.
	idle   bool   // Nobody drains: whoever put it has to.
	err    error
}

// A flusher waits until no message up to target is queued. Those with the same target share it.
type flusher struct {
	target  uint64
	sharers int
	done    chan struct{} // Closed when none is.
}

func (l *line[T]) join(p *place[T]) {
	p.prev, p.next = l.last, nil
	if l.last == nil {
		l.first = p
	} else {
		l.last.next = p
	}
	l.last = p
}

func (l *line[T]) leave(p *place[T]) {
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

// joinRoomLocked waits in line for room for data.
func (q *queue) joinRoomLocked(data []byte, size int) *place[producer] {
	var p *place[producer]
	select {
	case p = <-q.spare:
	default:
		p = &place[producer]{who: producer{served: make(chan struct{}, 1)}}
	}
	p.who.data, p.who.size = data, size
	q.room.join(p)
	return p
}

// spareRoom keeps a place that its producer has left.
func (q *queue) spareRoom(p *place[producer]) {
	p.who.data, p.who.result = nil, putResult{}
	select {
	case q.spare <- p:
	default:
	}
}

// leaveRoom is for a producer that does not wait any longer. It says no if it was served meanwhile.
func (q *queue) leaveRoom(p *place[producer]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(p.who.served) > 0 {
		return false
	}
	q.room.leave(p)
	q.counts.refused++
	q.leftLocked() // The next one may need less room.
	return true
}

// awaitRoom returns nil if the queue is below its bounds, and otherwise a channel that is closed once there is room that
// nobody in line has taken, or the queue is closed.
func (q *queue) awaitRoom() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.roomyLocked() || q.joinSharedLocked(1) && q.roomyLocked() {
		q.leaveSharedLocked()
		return nil
	}
	if q.roomy == nil {
		q.roomy = make(chan struct{})
	}
	return q.roomy
}

func (q *queue) roomyLocked() bool { return q.closed || q.room.first == nil && q.fitsLocked(1) }

// leftLocked is called whenever something has left the queue, or the line for room: it serves those who
// waited for it.
func (q *queue) leftLocked() {
	if q.shared != nil {
		q.chargeLocked()
	}
	if q.room.first != nil {
		q.serveLocked()
	}
	if q.roomy != nil && (q.roomyLocked() || q.room.first == nil && q.joinSharedLocked(1) && q.roomyLocked()) {
		close(q.roomy)
		q.roomy = nil
	}
	if q.inLine {
		q.leaveSharedLocked()
	}
	passed := q.passedLocked()
	for f := q.flushers.first; f != nil && f.who.target <= passed; f = q.flushers.first {
		q.flushers.leave(f)
		close(f.who.done)
	}
}

// serveLocked puts the messages of those who wait for room into the queue, one after the other, as long as
// they fit. A message larger than a chunk is promised its room, and copied outside the lock.
func (q *queue) serveLocked() {
	now := q.ageLocked()
	for p := q.room.first; p != nil; p = q.room.first {
		w := &p.who
		switch {
		case q.closed:
			w.result.err = errStopped
		case !q.makeRoomLocked(w.size, now) && !(q.joinSharedLocked(w.size) && q.makeRoomLocked(w.size, now)):
			return
		case w.size > chunkSize:
			q.promiseLocked(w.size)
		default:
			q.appendLocked(w.data, w.size, nil, now)
			q.chargeLocked()
			w.result.number = q.counts.accepted
			w.result.idle, q.sleeping = q.sleeping, false
		}
		q.room.leave(p)
		w.served <- struct{}{}
	}
}

// flush waits until every message accepted so far has left the queue, or ctx ends, and returns its cause.
func (q *queue) flush(ctx context.Context) error {
	q.mu.Lock()
	f := q.joinFlushLocked()
	q.mu.Unlock()
	if f == nil {
		return nil
	}
	select {
	case <-f.who.done:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-f.who.done:
		return nil
	default:
	}
	if f.who.sharers--; f.who.sharers == 0 {
		q.flushers.leave(f)
	}
	return context.Cause(ctx)
}

// flushed returns a channel that is closed when every message accepted so far has left the queue. Whoever may
// lose patience uses flush.
func (q *queue) flushed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f := q.joinFlushLocked(); f != nil {
		return f.who.done
	}
	done := make(chan struct{})
	close(done)
	return done
}

// joinFlushLocked returns where to wait, nil if nothing is queued.
func (q *queue) joinFlushLocked() *place[flusher] {
	target := q.counts.accepted // Those that are served now were not accepted before.
	if q.expireLocked(q.ageLocked()) {
		q.leftLocked()
	}
	if q.passedLocked() >= target {
		return nil
	}
	f := q.flushers.last
	if f == nil || f.who.target != target {
		f = &place[flusher]{who: flusher{target: target, done: make(chan struct{})}}
		q.flushers.join(f)
	}
	f.who.sharers++
	return f
}

// passedLocked returns the number of the last message that is not queued any more, nor any before it.
func (q *queue) passedLocked() uint64 {
	head := q.headLocked()
	if len(head.segs) == 0 {
		return q.counts.accepted
	}
	return head.segs[0].first + uint64(q.spent) - 1
}

// armLocked has tick called when the oldest message is too old that may be dropped.
func (q *queue) armLocked(now time.Duration) {
	if q.maxAge == 0 || q.armed {
		return
	}
	var oldest *segment
	if first := q.firstIdleLocked(); first < len(q.front.segs) {
		oldest = &q.front.segs[first]
	} else if len(q.waiting.segs) > 0 {
		oldest = &q.waiting.segs[0]
	} else {
		return
	}
	q.armed = true
	wait := max(oldest.at+q.maxAge-now+1, minExpiry)
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, q.tick)
	} else {
		q.timer.Reset(wait)
	}
}

// tick drops what is too old, whatever the drain goroutine is waiting for.
func (q *queue) tick() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.armed = false
	if q.sealed {
		return
	}
	now := q.ageLocked()
	if q.expireLocked(now) {
		q.leftLocked()
	}
	q.armLocked(now)
}
