// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is who waits for room in the queue: in line, first come first served. Whatever can end a wait looks at the
// line: what leaves the queue for any reason, the time, and the end.

// maxSpareWaiters is how many places of producers a queue keeps to use them again.
const maxSpareWaiters = 16

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
