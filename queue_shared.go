// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file bounds what the queues of all connections of a Listener hold together: each has its share, so that one
// whose peer reads nothing does not take the room of the others. Whoever waits for room that another queue has is
// served when that one gets smaller.

import (
	"slices"
	"sync"
	"sync/atomic"
)

// freeQueued is what every queue may hold whatever the others have, so that small messages never touch what is shared.
const freeQueued = chunkSize

// What one queue may have of the bytes that all have together.
const (
	mostOfShared = 2  // A part of the limit, as long as that is not reached.
	partOfShared = 16 // Beyond it, up to twice the limit; with more queues, as many parts.
)

// A sharedRoom counts what the queues of a Listener hold, the first freeQueued bytes of each aside.
type sharedRoom struct {
	limit   int64
	used    atomic.Int64
	queues  atomic.Int64 // Open connections.
	waiting atomic.Int64 // The length of line.
	dropped atomic.Uint64
	wakes   atomic.Int64 // Since the goroutine that serves line has looked; it runs while this is not 0.

	mu   sync.Mutex // Guards what follows. It is taken under the mutex of a queue, never the other way round.
	line []*queue   // Those that have room by their own bounds, and not by this one.
}

// setLimit sets how many bytes all queues may hold together. It is called before the first queue is made.
func (s *sharedRoom) setLimit(bytes int64) { s.limit = bytes }

// addQueue counts a connection that has one of the queues, until removeQueue.
func (s *sharedRoom) addQueue() { s.queues.Add(1) }

func (s *sharedRoom) removeQueue() { s.queues.Add(-1) }

// droppedMessages returns how many messages were dropped to make room for newer ones.
func (s *sharedRoom) droppedMessages() uint64 { return s.dropped.Load() }

// charge is what a queue of so many bytes counts for.
func charge(bytes uint64) int64 { return max(0, int64(bytes)-freeQueued) }

// fits says whether a queue that is charged before may hold so many bytes and size more. One message fits into an empty
// queue up to twice the limit, or if no other queue has anything.
func (s *sharedRoom) fits(before int64, held uint64, size int) bool {
	own := charge(held + uint64(size))
	if own == 0 {
		return true
	}
	others := s.used.Load() - before
	switch all := others + own; {
	case all <= s.limit && own <= s.limit/mostOfShared:
		return true
	case all > 2*s.limit:
		return held == 0 && others <= 0
	default:
		return held == 0 || own <= s.limit/max(partOfShared, s.queues.Load())
	}
}

// wake has those in line look again. Its caller may hold the mutex of a queue.
func (s *sharedRoom) wake() {
	if s.waiting.Load() > 0 && s.wakes.Add(1) == 1 {
		go s.serve() // Ends when everybody has looked.
	}
}

func (s *sharedRoom) serve() {
	for {
		seen := s.wakes.Load()
		s.mu.Lock()
		line := slices.Clone(s.line)
		s.mu.Unlock()
		for _, q := range line {
			q.mu.Lock()
			q.leftLocked()
			q.mu.Unlock()
		}
		if s.wakes.Add(-seen) == 0 {
			return
		}
	}
}

// heldLocked returns the bytes that are queued or have their room.
func (q *queue) heldLocked() uint64 { return q.queuedBytesLocked() + q.promisedBytes }

// sharedFitsLocked says whether the other queues leave room for size bytes more than held.
func (q *queue) sharedFitsLocked(held uint64, size int) bool {
	return q.shared == nil || q.shared.fits(q.charged, held, size)
}

// chargeLocked counts what the queue holds now.
func (q *queue) chargeLocked() {
	if q.shared == nil {
		return
	}
	now := charge(q.heldLocked())
	more := now - q.charged
	if more == 0 {
		return
	}
	q.charged = now
	q.shared.used.Add(more) // Before waiting is looked at: joinSharedLocked does it the other way round.
	if more < 0 {
		q.shared.wake()
	}
}

// joinSharedLocked has the queue told when others get smaller, if nothing else keeps size bytes out. It says whether to look
// once more, because they may have done so in this moment.
func (q *queue) joinSharedLocked(size int) bool {
	if q.shared == nil || q.inLine || !q.ownFitsLocked(size) {
		return false
	}
	q.inLine = true
	s := q.shared
	s.mu.Lock()
	s.line = append(s.line, q)
	s.waiting.Add(1)
	s.mu.Unlock()
	return true
}

// leaveSharedLocked is for a queue in which nobody waits.
func (q *queue) leaveSharedLocked() {
	if !q.inLine || q.room.first != nil || q.roomy != nil {
		return
	}
	q.inLine = false
	s := q.shared
	s.mu.Lock()
	s.line = slices.DeleteFunc(s.line, func(other *queue) bool { return other == q })
	s.waiting.Add(-1)
	s.mu.Unlock()
}
