// SPDX-License-Identifier: Apache-2.0

package queue

// This file limits the memory that the queues of all connections of a Listener use together. Each
// queue has a share: a peer that reads nothing cannot use the room of the others. A goroutine that
// waits for room of another queue is served when that queue shrinks.

import (
	"slices"
	"sync"
	"sync/atomic"
)

// uncountedQueueBytes is what each queue may hold without being counted, so that small messages
// never touch shared data.
const uncountedQueueBytes = ChunkSize

// The part of the limit that one queue may use.
const (
	maxShareDivisor  = 2  // While the sum is below the limit.
	fairShareDivisor = 16 // Above it, up to twice the limit; with more queues, one part for each.
)

// A SharedLimit counts the bytes that the queues of a Listener hold, without the first
// uncountedQueueBytes of each.
type SharedLimit struct {
	limit       int64
	used        atomic.Int64
	queues      atomic.Int64 // Open connections.
	waiterCount atomic.Int64 // The length of waiters.
	dropped     atomic.Uint64
	wakes       atomic.Int64 // Calls of wake that serveWaiters has not served; it runs while this is not 0.

	mu      sync.Mutex // Guards what follows. It is taken under the mutex of a queue, never the other way round.
	waiters []*Queue   // Queues that have room by their own limits but not by this one.
}

// SetLimit sets how many bytes all queues may hold together. Call it before the first queue is
// made.
func (s *SharedLimit) SetLimit(bytes int64) { s.limit = bytes }

// AddQueue counts a connection with a queue, until RemoveQueue.
func (s *SharedLimit) AddQueue() { s.queues.Add(1) }

// RemoveQueue undoes an AddQueue.
func (s *SharedLimit) RemoveQueue() { s.queues.Add(-1) }

// DroppedMessages returns how many messages were dropped to make room for newer ones.
func (s *SharedLimit) DroppedMessages() uint64 { return s.dropped.Load() }

// chargeFor returns the counted part of a queue that holds bytes.
func chargeFor(bytes uint64) int64 { return max(0, int64(bytes)-uncountedQueueBytes) }

// fits reports whether a queue may hold size bytes more than held. before is what it is charged
// now. One message fits into an empty queue up to twice the limit, or if no other queue is charged.
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

// wake makes the waiting queues check again for room. The caller may hold the mutex of a queue.
func (s *SharedLimit) wake() {
	if s.waiterCount.Load() > 0 && s.wakes.Add(1) == 1 {
		go s.serveWaiters() // Ends when all waiting queues have checked.
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

// heldBytesLocked returns the bytes of queued messages and of reserved room.
func (q *Queue) heldBytesLocked() uint64 { return q.queuedBytesLocked() + q.reservedBytes }

// fitsSharedLimitLocked reports whether the other queues leave room for size bytes more than held.
func (q *Queue) fitsSharedLimitLocked(held uint64, size int) bool {
	return q.shared == nil || q.shared.fits(q.charged, held, size)
}

// chargeLocked updates what the queue is charged.
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
	q.shared.used.Add(more) // Before waiterCount is read: addSharedWaiterLocked uses the opposite order.
	if more < 0 {
		q.shared.wake()
	}
}

// addSharedWaiterLocked registers the queue to be served when others shrink, unless its own limits
// keep so many messages and bytes out. It reports whether to check again, because others may have shrunk meanwhile.
func (q *Queue) addSharedWaiterLocked(count uint64, size int) bool {
	if q.shared == nil || q.inSharedList || !q.fitsOwnLimitsLocked(count, size) {
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

// removeSharedWaiterLocked removes the queue from the waiting ones, if no goroutine waits in it.
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
