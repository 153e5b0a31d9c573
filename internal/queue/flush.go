// SPDX-License-Identifier: Apache-2.0

package queue

// This file has the goroutines that wait for messages to leave the queue.

import (
	"context"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A flusher waits until no message up to target is queued. All goroutines with the same target
// share it.
type flusher struct {
	target  uint64
	waiters int
	done    chan struct{} // Closed when no such message is queued.
}

// Flush waits until every message accepted so far has left the queue. If ctx ends first, it returns
// the cause of ctx (errdefs.EndOf).
func (q *Queue) Flush(ctx context.Context) error {
	q.mu.Lock()
	f := q.addFlusherLocked()
	q.mu.Unlock()
	if f == nil {
		return nil
	}
	select {
	case <-f.value.done:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-f.value.done:
		return nil
	default:
	}
	if f.value.waiters--; f.value.waiters == 0 {
		q.flushers.remove(f)
	}
	return errdefs.EndOf(ctx)
}

// Flushed returns a channel that is closed when every message accepted so far has left the queue. A caller that may
// stop waiting uses Flush.
func (q *Queue) Flushed() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if f := q.addFlusherLocked(); f != nil {
		return f.value.done
	}
	done := make(chan struct{})
	close(done)
	return done
}

// addFlusherLocked returns the flusher to wait for, or nil if nothing is queued.
func (q *Queue) addFlusherLocked() *fifoElement[flusher] {
	target := q.counts.Accepted // serveWaitersLocked may accept more; they are not waited for.
	if q.expireLocked(q.ageLocked()) {
		q.serveWaitersLocked()
	}
	if q.removedThroughLocked() >= target {
		return nil
	}
	f := q.flushers.last
	if f == nil || f.value.target != target {
		f = &fifoElement[flusher]{value: flusher{target: target, done: make(chan struct{})}}
		q.flushers.pushBack(f)
	}
	f.value.waiters++
	if q.turns.offered {
		q.Signal() // The rest is less than a producer writes.
	}
	return f
}

// removedThroughLocked returns the number up to which every message has left the queue.
func (q *Queue) removedThroughLocked() uint64 {
	head := q.headLocked()
	if len(head.segs) == 0 {
		return q.counts.Accepted
	}
	return head.segs[0].first + uint64(q.releasedInFirst) - 1
}
