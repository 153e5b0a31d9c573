// SPDX-License-Identifier: Apache-2.0

package transport

// This file computes how long a receiving connection waits for its peer.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// The waits are the timeouts of a connection and the starts of its waits. They are owned by the
// reading goroutine.
type waits struct {
	idleTimeout time.Duration // 0: for ever.
	// In a session: the longest time without a byte of the writer; 0 disables it.
	heartbeatTimeout    time.Duration
	firstMessageTimeout time.Duration // From the beginning to the end of the first message; 0 for any.
	messageTimeout      time.Duration // From the first byte of a message to its last; 0 for any.
	startedAt           time.Time     // Start of the wait for the first message.

	// The wait of Fill: since when. A deadline that comes in between, and is not the end, does not
	// begin it anew.
	waitStart time.Time

	// The inactivity of a session: time and count of the last message that was seen.
	lastMessageAt    time.Time
	lastMessageCount uint64

	// Start of the wait for an incomplete message, and the frame count then. timeoutErr is the
	// meaning of the present deadline; nil for inactivity.
	frameStart      time.Time
	frameStartCount uint64
	timeoutErr      error

	// The deadline that a Conn's user has set; zero for none. Guarded by deadlineMu.
	userDeadline time.Time
	// Deadline of the last wait, without userDeadline; zero for none. Guarded by deadlineMu.
	lastWaitDeadline time.Time
	// The read deadline of the connection, if isArmed; not later than that of the wait. Guarded by
	// deadlineMu.
	armed   time.Time
	isArmed bool
	recheck chan struct{} // One slot: userDeadline was set, or a hand-over was requested.
}

// A readState is the progress of a connection when it waits.
type readState struct {
	received      uint64 // Messages that were handed over.
	skippedFrames uint64 // Frames that were skipped, or begun to be.
	skipBytes     uint64 // Bytes of such a frame that are still to be skipped.
	partial       int    // Bytes of an incomplete message.
	isNewPlain    bool   // It has no session, and no earlier process has read from it.
	holding       bool   // The incomplete message holds read memory,
	contested     bool   // for which others wait.
	gathered      bool   // Complete messages wait for a batch.
}

// waitDeadline returns the deadline of a wait that begins or continues now, and sets timeoutErr.
func (w *waits) waitDeadline(now time.Time, at readState) (deadline time.Time) {
	w.timeoutErr = nil
	until := func(end time.Time, reason func(readState) error) {
		if deadline.IsZero() || end.Before(deadline) {
			deadline, w.timeoutErr = end, reason(at)
		}
	}
	if w.waitStart.IsZero() {
		w.waitStart = now
	}
	if at.received != w.lastMessageCount || w.lastMessageAt.IsZero() {
		w.lastMessageAt, w.lastMessageCount = now, at.received
	}
	switch {
	case w.idleTimeout > 0 && w.heartbeatTimeout > 0:
		until(w.lastMessageAt.Add(w.idleTimeout), inactivity) // Heartbeats do not count.
	case w.idleTimeout > 0:
		until(w.waitStart.Add(w.idleTimeout), inactivity)
	}
	if w.heartbeatTimeout > 0 && !at.gathered { // A writer with unacknowledged messages sends no heartbeats.
		until(w.waitStart.Add(w.heartbeatTimeout), w.heartbeatTimeoutErr)
	}
	frames := at.received + at.skippedFrames // Received, or begun to be skipped.
	if w.firstMessageTimeout > 0 && (frames == 0 || frames == 1 && at.skipBytes > 0) && at.isNewPlain {
		until(w.startedAt.Add(w.firstMessageTimeout), w.firstMessageTimeoutErr)
	}
	if at.partial == 0 && at.skipBytes == 0 {
		w.frameStart = time.Time{}
		return deadline
	}
	if at.skipBytes > 0 {
		frames-- // The last one is incomplete.
	}
	if w.frameStart.IsZero() || frames != w.frameStartCount {
		w.frameStart, w.frameStartCount = now, frames
	}
	if w.messageTimeout > 0 {
		until(w.frameStart.Add(w.messageTimeout), w.messageTimeoutErr)
	}
	if at.holding {
		until(w.memoryHoldDeadline(now, at), func(readState) error { return errHoldsMemory })
	}
	return deadline
}

// memoryHoldDeadline returns the time from which an incomplete message must not hold memory while
// others wait for it.
func (w *waits) memoryHoldDeadline(now time.Time, at readState) time.Time {
	if w.messageTimeout == 0 && at.contested && now.Sub(w.frameStart) > maxHold {
		return now // A peer that sends a byte at a time must not hold it for ever.
	}
	return now.Add(maxMemoryHold)
}

// inactivity is no error of its own: the read returns its timeout.
func inactivity(readState) error { return nil }

func (w *waits) heartbeatTimeoutErr(readState) error {
	return fmt.Errorf("%w: nothing came for %v (WithHeartbeatTimeout)", errdefs.ErrHeartbeatTimeout, w.heartbeatTimeout)
}

func (w *waits) firstMessageTimeoutErr(at readState) error {
	if at.partial == 0 && at.skipBytes == 0 {
		return nil // Nothing has arrived at all: that is inactivity.
	}
	return fmt.Errorf("%w: first message incomplete after %v (WithFirstMessageTimeout)",
		errdefs.ErrTooSlow, w.firstMessageTimeout)
}

func (w *waits) messageTimeoutErr(at readState) error {
	if at.skipBytes > 0 {
		return fmt.Errorf("%w: a message over the limit has not come to its end %v after its "+
			"first byte, %d bytes are missing (WithMessageTimeout)", errdefs.ErrTooSlow, w.messageTimeout, at.skipBytes)
	}
	return fmt.Errorf("%w: message incomplete after %v: %d bytes received (WithMessageTimeout)",
		errdefs.ErrTooSlow, w.messageTimeout, at.partial)
}

// restart restarts the waits after a wait for anything but the peer.
func (w *waits) restart() {
	w.frameStart, w.waitStart = time.Time{}, time.Time{}
	w.startedAt = time.Now()
}

// signalRecheck makes a wait for memory check its deadlines again.
func (w *waits) signalRecheck() {
	select {
	case w.recheck <- struct{}{}:
	default:
	}
}

// earliest returns the earlier of two deadlines, of which each may be zero for never.
func earliest(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}
