// SPDX-License-Identifier: Apache-2.0

package rpc

// This file runs the calls of a Server. They wait in a queue of their connection. One goroutine is
// woken for the queue, not one for each call. It takes a call, wakes another goroutine if more calls
// wait, runs its call, and takes the next one. While handlers return quickly, one goroutine runs all
// calls. When a handler blocks, the other goroutine goes on: no call waits for the handler of
// another.

import (
	"runtime"
	"sync/atomic"
)

// maxIdleWorkers is the largest number of goroutines that wait to be woken.
const maxIdleWorkers = 256

// yieldThreshold is the number of waiting calls from which on the reading goroutine yields before the
// next one. A client may send requests by the thousand and leave large responses unread. This is
// noticed only if some handlers run before all requests are read.
const yieldThreshold = 64

// workers are the goroutines that run calls.
type workers struct {
	woken   chan *connState // Wakes one; nil ends it.
	idle    atomic.Int64    // Goroutines that wait for woken, or are about to.
	stopped atomic.Bool     // Set at the end of Stop: they end.
}

// A callQueue has the calls of a connection that no goroutine has taken: calls[first:].
type callQueue struct {
	calls []*call
	first int
	// A goroutine was woken for the queue, and has not looked at it yet. If calls wait, that is so, or
	// a goroutine is about to take the next one.
	waking bool
}

// maxKeptCalls is the largest capacity of an empty queue.
const maxKeptCalls = 1 << 10

func (q *callQueue) size() int { return len(q.calls) - q.first }

// wakes reports whether the caller must wake a goroutine for the queue, now that calls wait.
func (q *callQueue) wakes() bool {
	wakes := q.size() > 0 && !q.waking
	q.waking = q.waking || wakes
	return wakes
}

// push adds a call. If the slice is full and half of it is free, the calls move to its start.
func (q *callQueue) push(c *call) {
	if len(q.calls) == cap(q.calls) && q.first > len(q.calls)/2 {
		n := copy(q.calls, q.calls[q.first:])
		clear(q.calls[n:])
		q.calls, q.first = q.calls[:n], 0
	}
	q.calls = append(q.calls, c)
}

// pop returns the next call, or nil.
func (q *callQueue) pop() (c *call) {
	if q.size() == 0 {
		return nil
	}
	c, q.calls[q.first] = q.calls[q.first], nil
	if q.first++; q.size() == 0 {
		q.calls, q.first = q.calls[:0], 0
		if cap(q.calls) > maxKeptCalls {
			q.calls = nil
		}
	}
	return c
}

// enqueue has a call run. It is called by the reading goroutine.
func (s *connState) enqueue(c *call) {
	s.mu.Lock()
	s.waiting.push(c)
	wakes, size := s.waiting.wakes(), s.waiting.size()
	s.mu.Unlock()
	if wakes {
		s.server.workers.wake(s)
	}
	if size > yieldThreshold {
		runtime.Gosched()
	}
}

// nextCall takes a call, or returns nil. woken reports that the goroutine comes because it was woken.
// If wakes is true, it must wake another one.
func (s *connState) nextCall(woken bool) (c *call, wakes bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if woken {
		s.waiting.waking = false
	}
	c = s.waiting.pop()
	return c, s.waiting.wakes()
}

// runCalls runs calls until none waits. The goroutine was woken for it.
func (s *connState) runCalls() {
	for woken := true; ; woken = false {
		c, wakes := s.nextCall(woken)
		if wakes { // First: the handler may block, or end the goroutine.
			s.server.workers.wake(s)
		}
		if c == nil {
			return
		}
		c.run()
	}
}

// wake wakes a goroutine for the calls of a connection.
func (w *workers) wake(s *connState) {
	select {
	case w.woken <- s:
	default:
		go w.run(s) // Ends when too many goroutines are idle, or in stop.
	}
}

// run runs calls of one connection, then of others.
func (w *workers) run(s *connState) {
	for {
		s.runCalls()
		if w.idle.Add(1) > maxIdleWorkers || w.stopped.Load() {
			w.idle.Add(-1)
			return
		}
		s = <-w.woken
		if w.idle.Add(-1); s == nil {
			return
		}
	}
}

// stop ends the idle goroutines.
func (w *workers) stop() {
	w.stopped.Store(true)
	for w.idle.Load() > 0 { // Each is about to wait, or sees that the Server has stopped.
		select {
		case w.woken <- nil:
		default:
			runtime.Gosched()
		}
	}
}
