// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how a server proves that it is alive: the goroutine that accepts connections responds.

import (
	"net"
	"sync"
	"time"
)

// A deadliner is a listener whose Accept can be woken.
type deadliner interface{ SetDeadline(time.Time) error }

// A healthCheck asks the goroutine that accepts connections whether it responds. It wakes Accept by a deadline in the
// past, which the goroutine clears with its reply.
type healthCheck struct {
	asked    chan struct{} // One slot: pending was set.
	answered chan struct{} // One slot: there was a reply.

	mu       sync.Mutex // Guards what follows. It is taken under the mutex of the server, never the other way round.
	listener deadliner  // nil: Accept cannot be woken, or is to end.
	pending  bool
}

func newHealthCheck() healthCheck {
	return healthCheck{asked: make(chan struct{}, 1), answered: make(chan struct{}, 1)}
}

// begin allows checks: from now on somebody accepts.
func (h *healthCheck) begin(listener net.Listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listener, _ = listener.(deadliner)
}

// end leaves the deadline of the listener to the caller, for good.
func (h *healthCheck) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listener = nil
}

// responds reports whether the goroutine that accepts replies in time. One that cannot be woken, or is to end, is
// believed to.
func (h *healthCheck) responds(within time.Duration, stopping <-chan struct{}) bool {
	select {
	case <-h.answered: // To an earlier check, too late.
	default:
	}
	if !h.ask() {
		return true
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-h.answered:
		return true
	case <-stopping:
		return true
	case <-timer.C:
		return false
	}
}

// ask wakes the goroutine that accepts, wherever it waits.
func (h *healthCheck) ask() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listener == nil || h.listener.SetDeadline(aLongTimeAgo) != nil {
		return false
	}
	h.pending = true
	select {
	case h.asked <- struct{}{}:
	default:
	}
	return true
}

// reply answers a check, if there is one, and lets Accept wait again. The goroutine that accepts calls it.
func (h *healthCheck) reply() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.pending {
		return false
	}
	h.pending = false
	if h.listener != nil {
		_ = h.listener.SetDeadline(time.Time{}) // If not, Accept tells.
	}
	select {
	case h.answered <- struct{}{}:
	default:
	}
	return true
}
