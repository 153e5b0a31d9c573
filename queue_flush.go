// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is who waits for messages to leave the queue.

import "context"

// A flusher waits until no message up to target is queued. Those with the same target share it.
type flusher struct {
	target  uint64
	sharers int
	done    chan struct{} // Closed when none is.
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
