// SPDX-License-Identifier: Apache-2.0

package transport

// This file sets the read deadline of a receiving connection, which ends each of its waits.

import "time"

// minAttemptTime is the least time for a read attempt whose deadline had passed before it was made.
// After its deadline no attempt is made at all, and the wait would never end.
const minAttemptTime = 5 * time.Millisecond

// setWaitDeadline sets the deadline of the next wait.
func (in *In) setWaitDeadline() error {
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	var deadline time.Time
	switch {
	case in.end.halted.Load():
		deadline = PastDeadline
	case in.end.readClosed:
	case in.end.closing.Load() && !in.end.goodbyeSent:
		// RequestClose was called meanwhile: the goodbye must still be sent.
		deadline = PastDeadline
	case in.end.closing.Load():
		deadline = in.end.grace.deadline(time.Now(), in.counts.receivedBytes.Load())
	case in.handOver.requested.Load() && in.atFrameBoundary():
		deadline = PastDeadline // RequestHandOver was called meanwhile.
	case in.handOver.requested.Load():
		in.beginHandOver()
		deadline = in.handOver.deadline
	default:
		now := time.Now()
		in.wait.lastWaitDeadline = in.wait.waitDeadline(now, in.state())
		deadline = in.wait.lastWaitDeadline
		if soonest := now.Add(minAttemptTime); in.attempt.attemptMissed && !in.attempt.attempted &&
			!deadline.IsZero() && deadline.Before(soonest) {
			deadline = soonest
		}
		deadline = earliest(deadline, in.wait.userDeadline)
		if in.wait.isArmed && isSoonEnough(in.wait.armed, deadline, now) {
			return nil
		}
		in.wait.armed, in.wait.isArmed = deadline, true
		return in.conn.SetReadDeadline(deadline)
	}
	return in.setReadDeadlineLocked(deadline)
}

// setReadDeadlineLocked sets a deadline that is not that of an ordinary wait. The next wait sets its
// own.
func (in *In) setReadDeadlineLocked(deadline time.Time) error {
	in.wait.isArmed = false
	return in.conn.SetReadDeadline(deadline)
}

// isSoonEnough reports whether a wait until deadline may begin with an earlier one, armed. When that
// has passed, the wait goes on. Most waits are short, so that this saves the setting of a timer for
// each. A deadline that passes before the wait would cost another attempt, so half of the time must
// be left.
func isSoonEnough(armed, deadline, now time.Time) bool {
	switch {
	case deadline.IsZero() || armed.IsZero():
		return deadline.IsZero() && armed.IsZero()
	case armed.After(deadline):
		return false
	}
	return armed.Sub(now) >= deadline.Sub(now)/2
}

// state returns the progress of the connection.
func (in *In) state() readState {
	holding := in.input.reserved.Bytes > 0
	return readState{
		received: in.counts.received.Load() + uint64(in.gathered.messages), skippedFrames: in.oversize.skippedFrames,
		skipBytes: in.oversize.skipBytes, partial: in.PartialBytes() - in.gathered.bytes,
		isNewPlain: in.session == nil && !in.inherited, holding: holding, contested: holding && in.input.memory.Contested(),
		gathered: in.gathered.messages > 0,
	}
}

// SetUserDeadline sets the deadline of a Conn. Any goroutine may call it.
func (in *In) SetUserDeadline(deadline time.Time) error {
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	in.wait.userDeadline = deadline
	in.wait.signalRecheck()
	if in.end.closing.Load() || in.end.halted.Load() {
		return nil
	}
	// The deadline of a past wait does no harm: the next wait sets its own.
	return in.setReadDeadlineLocked(earliest(in.wait.lastWaitDeadline, deadline))
}

// inUse reports whether an expired wait may continue: this side is busy for the peer, or no
// connection wants the memory that the message holds.
func (in *In) inUse() bool {
	if in.wait.timeoutErr == errHoldsMemory {
		return !in.input.memory.Contested()
	}
	if in.wait.timeoutErr != nil || in.keepOpen == nil || !in.keepOpen() {
		return false
	}
	in.wait.waitStart = time.Time{}
	return true
}

// waitDeadlinePassed reports whether the deadline of the present wait has passed. If not, the wait
// was interrupted by an older deadline.
func (in *In) waitDeadlinePassed() bool {
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	return !in.wait.lastWaitDeadline.IsZero() && !time.Now().Before(in.wait.lastWaitDeadline)
}

// userDeadlineTimer returns a channel that fires at the deadline of a Conn, or nil without one.
func (in *In) userDeadlineTimer() <-chan time.Time {
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	if in.wait.userDeadline.IsZero() {
		return nil
	}
	return time.After(time.Until(in.wait.userDeadline))
}

// userDeadlinePassed reports whether the deadline of a Conn has passed.
func (in *In) userDeadlinePassed() bool {
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	return !in.wait.userDeadline.IsZero() && !time.Now().Before(in.wait.userDeadline)
}

// atFrameBoundary reports whether the connection is at a frame boundary.
func (in *In) atFrameBoundary() bool {
	return in.PartialBytes() == 0 && in.oversize.skipBytes == 0
}

// NeverRead reports whether nothing was ever read from the connection.
func (in *In) NeverRead() bool { return !in.inherited && in.counts.receivedBytes.Load() == 0 }
