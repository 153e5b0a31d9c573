// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how long a receiving connection waits for its peer.

import (
	"fmt"
	"time"
)

// The waits of a connection: how long each may last, and since when it does. They belong to the
// goroutine that reads.
type waits struct {
	idle    time.Duration // 0: for ever.
	silence time.Duration // In a session, the longest that the writer may say nothing; 0 for any.
	first   time.Duration // From the beginning to the end of the first message; 0 for any.
	frame   time.Duration // From the first byte of a message to its last; 0 for any.
	began   time.Time     // Since when the first message is waited for.

	// The wait of fill: since when. A deadline that comes in between, and is not the end, does not
	// begin it anew.
	waitAt time.Time

	// The wait of a session: when the last message came, as far as that was looked at, and which.
	lastAt  time.Time
	lastWas uint64

	// The wait for the rest of a message: since when, and which one. And what a wait that lasts too
	// long means; nil for inactivity.
	frameAt  time.Time
	frameWas uint64
	reason   error

	limited time.Time     // Of a Conn: its reader's own deadline; zero for none. Guarded by the connection's mu.
	armed   time.Time     // When the last wait would have lasted too long, without that; zero for never. Guarded by mu.
	stirred chan struct{} // One slot: limited was set, or a hand-over was requested.
}

// A readState is how far a connection is when it waits.
type readState struct {
	received  uint64 // Messages that were handed over.
	refused   uint64 // Frames that are, or were, passed over.
	skip      uint64 // Bytes of such a frame that are still to come.
	partial   int    // Bytes of an incomplete message.
	untried   bool   // It has no session, and no earlier process has read from it.
	holding   bool   // The incomplete message holds read memory,
	contested bool   // for which others wait.
}

// tooLong is when a wait that begins now, or goes on, has lasted too long, and notes for what.
func (w *waits) tooLong(now time.Time, at readState) (deadline time.Time) {
	w.reason = nil
	until := func(end time.Time, reason func(readState) error) {
		if deadline.IsZero() || end.Before(deadline) {
			deadline = end
			if w.reason = nil; reason != nil {
				w.reason = reason(at)
			}
		}
	}
	if w.waitAt.IsZero() {
		w.waitAt = now
	}
	if at.received != w.lastWas || w.lastAt.IsZero() {
		w.lastAt, w.lastWas = now, at.received
	}
	switch {
	case w.idle > 0 && w.silence > 0:
		until(w.lastAt.Add(w.idle), nil) // Heartbeats do not count.
	case w.idle > 0:
		until(w.waitAt.Add(w.idle), nil)
	}
	if w.silence > 0 {
		until(w.waitAt.Add(w.silence), w.silent)
	}
	frames := at.received + at.refused // That came, or have begun to be passed over.
	if w.first > 0 && (frames == 0 || frames == 1 && at.skip > 0) && at.untried {
		until(w.began.Add(w.first), w.late)
	}
	if at.partial == 0 && at.skip == 0 {
		w.frameAt = time.Time{}
		return deadline
	}
	if at.skip > 0 {
		frames-- // It is the one that is still to come.
	}
	if w.frameAt.IsZero() || frames != w.frameWas {
		w.frameAt, w.frameWas = now, frames
	}
	if w.frame > 0 {
		until(w.frameAt.Add(w.frame), w.slow)
	}
	if at.holding {
		until(w.heldTooLong(now, at), func(readState) error { return errHolding })
	}
	return deadline
}

// heldTooLong is when a message that is waited for from now on has held its memory for too long, if
// others want it then.
func (w *waits) heldTooLong(now time.Time, at readState) time.Time {
	if w.frame == 0 && at.contested && now.Sub(w.frameAt) > maxHold {
		return now // Nobody keeps it for ever, a byte at a time.
	}
	return now.Add(holdPatience)
}

func (w *waits) silent(readState) error {
	return fmt.Errorf("%w: nothing came for %v (WithPeerTimeout)", errPeerSilent, w.silence)
}

func (w *waits) late(at readState) error {
	if at.partial == 0 && at.skip == 0 {
		return nil // It has been idle ever since.
	}
	return fmt.Errorf("%w: first message incomplete after %v (WithFirstMessageTimeout)", errTooSlow, w.first)
}

func (w *waits) slow(at readState) error {
	if at.skip > 0 {
		return fmt.Errorf("%w: a message over the limit has not come to its end %v after its first byte, %d bytes are missing (WithMessageTimeout)", errTooSlow, w.frame, at.skip)
	}
	return fmt.Errorf("%w: message incomplete after %v: %d bytes received (WithMessageTimeout)", errTooSlow, w.frame, at.partial)
}

// restart begins the waits anew, after a wait for something else than the peer.
func (w *waits) restart() {
	w.frameAt, w.waitAt = time.Time{}, time.Time{}
	w.began = time.Now()
}

// stir has a wait for memory look again what ends it.
func (w *waits) stir() {
	select {
	case w.stirred <- struct{}{}:
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
