// SPDX-License-Identifier: Apache-2.0

package transport

// This file is how long a receiving connection waits for its peer.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// The waits of a connection: how long each may last, and since when it does. They belong to the
// goroutine that reads.
type waits struct {
	idleTimeout         time.Duration // 0: for ever.
	heartbeatTimeout    time.Duration // In a session, the longest that the writer may say nothing; 0 for any.
	firstMessageTimeout time.Duration // From the beginning to the end of the first message; 0 for any.
	messageTimeout      time.Duration // From the first byte of a message to its last; 0 for any.
	startedAt           time.Time     // Since when the first message is waited for.

	// The wait of Fill: since when. A deadline that comes in between, and is not the end, does not
	// begin it anew.
	waitStart time.Time

	// The wait of a session: when the last message came, as far as that was looked at, and which.
	lastMessageAt    time.Time
	lastMessageCount uint64

	// The wait for the rest of a message: since when, and which one. And what a wait that lasts too
	// long means; nil for inactivity.
	frameStart      time.Time
	frameStartCount uint64
	timeoutErr      error

	userDeadline     time.Time     // Of a Conn: its reader's own deadline; zero for none. Guarded by deadlineMu.
	lastWaitDeadline time.Time     // When the last wait would have lasted too long, without that; zero for never. Guarded by deadlineMu.
	recheck          chan struct{} // One slot: userDeadline was set, or a hand-over was requested.
}

// A readState is how far a connection is when it waits.
type readState struct {
	received      uint64 // Messages that were handed over.
	skippedFrames uint64 // Frames that are, or were, passed over.
	skipBytes     uint64 // Bytes of such a frame that are still to come.
	partial       int    // Bytes of an incomplete message.
	isNewPlain    bool   // It has no session, and no earlier process has read from it.
	holding       bool   // The incomplete message holds read memory,
	contested     bool   // for which others wait.
}

// waitDeadline is when a wait that begins now, or goes on, has lasted too long, and notes for what.
func (w *waits) waitDeadline(now time.Time, at readState) (deadline time.Time) {
	w.timeoutErr = nil
	until := func(end time.Time, reason func(readState) error) {
		if deadline.IsZero() || end.Before(deadline) {
			deadline = end
			if w.timeoutErr = nil; reason != nil {
				w.timeoutErr = reason(at)
			}
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
		until(w.lastMessageAt.Add(w.idleTimeout), nil) // Heartbeats do not count.
	case w.idleTimeout > 0:
		until(w.waitStart.Add(w.idleTimeout), nil)
	}
	if w.heartbeatTimeout > 0 {
		until(w.waitStart.Add(w.heartbeatTimeout), w.heartbeatTimeoutErr)
	}
	frames := at.received + at.skippedFrames // That came, or have begun to be passed over.
	if w.firstMessageTimeout > 0 && (frames == 0 || frames == 1 && at.skipBytes > 0) && at.isNewPlain {
		until(w.startedAt.Add(w.firstMessageTimeout), w.firstMessageTimeoutErr)
	}
	if at.partial == 0 && at.skipBytes == 0 {
		w.frameStart = time.Time{}
		return deadline
	}
	if at.skipBytes > 0 {
		frames-- // It is the one that is still to come.
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

// memoryHoldDeadline is when a message that is waited for from now on has held its memory for too long, if
// others want it then.
func (w *waits) memoryHoldDeadline(now time.Time, at readState) time.Time {
	if w.messageTimeout == 0 && at.contested && now.Sub(w.frameStart) > maxHold {
		return now // Nobody keeps it for ever, a byte at a time.
	}
	return now.Add(maxMemoryHold)
}

func (w *waits) heartbeatTimeoutErr(readState) error {
	return fmt.Errorf("%w: nothing came for %v (WithHeartbeatTimeout)", errdefs.ErrHeartbeatTimeout, w.heartbeatTimeout)
}

func (w *waits) firstMessageTimeoutErr(at readState) error {
	if at.partial == 0 && at.skipBytes == 0 {
		return nil // It has been idle ever since.
	}
	return fmt.Errorf("%w: first message incomplete after %v (WithFirstMessageTimeout)", errdefs.ErrTooSlow, w.firstMessageTimeout)
}

func (w *waits) messageTimeoutErr(at readState) error {
	if at.skipBytes > 0 {
		return fmt.Errorf("%w: a message over the limit has not come to its end %v after its first byte, %d bytes are missing (WithMessageTimeout)", errdefs.ErrTooSlow, w.messageTimeout, at.skipBytes)
	}
	return fmt.Errorf("%w: message incomplete after %v: %d bytes received (WithMessageTimeout)", errdefs.ErrTooSlow, w.messageTimeout, at.partial)
}

// restart begins the waits anew, after a wait for something else than the peer.
func (w *waits) restart() {
	w.frameStart, w.waitStart = time.Time{}, time.Time{}
	w.startedAt = time.Now()
}

// signalRecheck has a wait for memory look again what ends it.
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
