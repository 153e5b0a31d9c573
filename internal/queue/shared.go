// SPDX-License-Identifier: Apache-2.0

package queue

// This file bounds what the queues of all connections of a Listener hold together: each has its share, so that one
// whose peer reads nothing does not take the room of the others. Whoever waits for room that another queue has is
// served when that one gets smaller.

import (
	"slices"
	"sync"
	"sync/atomic"
)

// uncountedQueueBytes is what every queue may hold whatever the others have, so that small messages
// never touch what is shared.
const uncountedQueueBytes = ChunkSize

// What one queue may have of the bytes that all have together.
const (
	maxShareDivisor  = 2  // A part of the limit, as long as that is not reached.
	fairShareDivisor = 16 // Beyond it, up to twice the limit; with more queues, as many parts.
)

// A SharedLimit counts what the queues of a Listener hold, the first uncountedQueueBytes bytes of each aside.
type SharedLimit struct {
	limit       int64
	used        atomic.Int64
	queues      atomic.Int64 // Open connections.
	waiterCount atomic.Int64 // The length of waiters.
	dropped     atomic.Uint64
	wakes       atomic.Int64 // Calls of wake since serveWaiters has looked; it runs while this is not 0.

	mu      sync.Mutex // Guards what follows. It is taken under the mutex of a queue, never the other way round.
	waiters []*Queue   // Those that have room by their own limits, and not by this one.
}

// SetLimit sets how many bytes all queues may hold together. It is called before the first queue is made.
func (s *SharedLimit) SetLimit(bytes int64) { s.limit = bytes }

// AddQueue counts a connection that has one of the queues, until RemoveQueue.
func (s *SharedLimit) AddQueue() { s.queues.Add(1) }

// RemoveQueue undoes an AddQueue.
func (s *SharedLimit) RemoveQueue() { s.queues.Add(-1) }

// DroppedMessages returns how many messages were dropped to make room for newer ones.
func (s *SharedLimit) DroppedMessages() uint64 { return s.dropped.Load() }

// chargeFor is what a queue of so many bytes counts for.
func chargeFor(bytes uint64) int64 { return max(0, int64(bytes)-uncountedQueueBytes) }

// fits says whether a queue that is charged before may hold so many bytes and size more. One message fits into an empty
// queue up to twice the limit, or if no other queue has anything.
func (s *SharedLimit) fits(before int64, held uint64, size int) bool {
	own := chargeFor(held + uint64(size))
	if own == 0 {
		return true
	}
	others := s.used.Load() - before
	switch all := others + own; {
	case all <= s.limit && own <= s.limit/maxShareDivisor:
		return true
	case all > 2*s.limit:
		return held == 0 && others <= 0
	default:
		return held == 0 || own <= s.limit/max(fairShareDivisor, s.queues.Load())
	}
}

// wake has the waiting queues look again. Its caller may hold the mutex of a queue.
func (s *SharedLimit) wake() {
	if s.waiterCount.Load() > 0 && s.wakes.Add(1) == 1 {
		go s.serveWaiters() // Ends when all queues have looked.
	}
}

func (s *SharedLimit) serveWaiters() {
	for {
		seen := s.wakes.Load()
		s.mu.Lock()
		line := slices.Clone(s.waiters)
		s.mu.Unlock()
		for _, q := range line {
			q.mu.Lock()
			q.serveWaitersLocked()
			q.mu.Unlock()
		}
		if s.wakes.Add(-seen) == 0 {
			return
		}
	}
}

// heldBytesLocked returns the bytes that are queued or have their room.
func (q *Queue) heldBytesLocked() uint64 { return q.queuedBytesLocked() + q.reservedBytes }

// fitsSharedLimitLocked says whether the other queues leave room for size bytes more than held.
func (q *Queue) fitsSharedLimitLocked(held uint64, size int) bool {
	return q.shared == nil || q.shared.fits(q.charged, held, size)
}

// chargeLocked counts what the queue holds now.
func (q *Queue) chargeLocked() {
	if q.shared == nil {
		return
	}
	now := chargeFor(q.heldBytesLocked())
	more := now - q.charged
	if more == 0 {
		return
	}
	q.charged = now
	q.shared.used.Add(more) // Before waiting is looked at: addSharedWaiterLocked does it the other way round.
	if more < 0 {
		q.shared.wake()
	}
}

// addSharedWaiterLocked has the queue told when others get smaller, if nothing else keeps size
// bytes out. It says whether to look once more, because they may have done so in this moment.
func (q *Queue) addSharedWaiterLocked(size int) bool {
	if q.shared == nil || q.inSharedList || !q.fitsOwnLimitsLocked(size) {
		return false
	}
	q.inSharedList = true
	s := q.shared
	s.mu.Lock()
	s.waiters = append(s.waiters, q)
	s.waiterCount.Add(1)
	s.mu.Unlock()
	return true
}

// removeSharedWaiterLocked is for a queue in which nobody waits.
func (q *Queue) removeSharedWaiterLocked() {
	if !q.inSharedList || q.producers.first != nil || q.spaceFreed != nil {
		return
	}
	q.inSharedList = false
	s := q.shared
	s.mu.Lock()
	s.waiters = slices.DeleteFunc(s.waiters, func(other *Queue) bool { return other == q })
	s.waiterCount.Add(-1)
	s.mu.Unlock()
}
