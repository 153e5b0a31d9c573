// SPDX-License-Identifier: Apache-2.0

package receiver

// This file checks the health of a server: its accept loop must respond.

import (
	"net"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/transport"
)

// A deadliner is a listener whose Accept can be woken.
type deadliner interface{ SetDeadline(time.Time) error }

// A healthCheck tests whether the accept loop responds. It wakes Accept by a deadline in the past; the loop replies and
// clears the deadline.
type healthCheck struct {
	asked   chan struct{} // One slot: pending was set.
	replied chan struct{} // One slot: there was a reply.

	mu       sync.Mutex // Guards what follows. It is taken under the mutex of the server, never the other way round.
	listener deadliner  // nil: Accept cannot be woken, or is to end.
	pending  bool
}

func newHealthCheck() healthCheck {
	return healthCheck{asked: make(chan struct{}, 1), replied: make(chan struct{}, 1)}
}

// begin enables checks once the accept loop runs.
func (h *healthCheck) begin(listener net.Listener) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listener, _ = listener.(deadliner)
}

// end disables checks: the deadline of the listener belongs to the caller from now on.
func (h *healthCheck) end() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.listener = nil
}

// responds reports whether the accept loop replies in time. It returns true if the loop cannot be woken, or is to end.
func (h *healthCheck) responds(within time.Duration, stopping <-chan struct{}) bool {
	select {
	case <-h.replied: // A late reply to an earlier check.
	default:
	}
	if !h.ask() {
		return true
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-h.replied:
		return true
	case <-stopping:
		return true
	case <-timer.C:
		return false
	}
}

// ask wakes the accept loop.
func (h *healthCheck) ask() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.listener == nil || h.listener.SetDeadline(transport.PastDeadline) != nil {
		return false
	}
	h.pending = true
	select {
	case h.asked <- struct{}{}:
	default:
	}
	return true
}

// reply answers a pending check and clears the deadline. The accept loop calls it.
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
	case h.replied <- struct{}{}:
	default:
	}
	return true
}
