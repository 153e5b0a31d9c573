// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file sets the read deadline of a receiving connection, which ends each of its waits.

import "time"

// attemptTime is left for an attempt to read after a deadline that had passed before one was made:
// behind a deadline none is made at all, and the wait would never come to an end.
const attemptTime = 5 * time.Millisecond

// arm sets the deadline of the next wait.
func (in *inbound) arm() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	var deadline time.Time
	switch {
	case in.end.halted.Load():
		deadline = aLongTimeAgo
	case in.end.shut:
	case in.end.closing.Load() && !in.end.said:
		deadline = aLongTimeAgo // requestClose came in between: the goodbye is still to be said.
	case in.end.closing.Load():
		deadline = in.end.grace.wait(time.Now(), in.counts.receivedBytes.Load())
	case in.handOver.requested.Load() && in.atRest():
		deadline = aLongTimeAgo // requestHandOver came in between.
	case in.handOver.requested.Load():
		in.beginHandOver()
		deadline = in.handOver.deadline
	default:
		now := time.Now()
		in.wait.armed = in.wait.tooLong(now, in.state())
		deadline = in.wait.armed
		if soonest := now.Add(attemptTime); in.attempt.missed && !in.attempt.tried && !deadline.IsZero() && deadline.Before(soonest) {
			deadline = soonest
		}
		deadline = earliest(deadline, in.wait.limited)
	}
	return in.conn.SetReadDeadline(deadline)
}

// state is how far the connection is.
func (in *inbound) state() readState {
	holding := in.input.loan.bytes > 0
	return readState{
		received: in.counts.received.Load(), refused: in.oversize.refused, skip: in.oversize.skip, partial: in.midway(),
		untried: in.session == nil && !in.resumed, holding: holding, contested: holding && in.input.memory.Contested(),
	}
}

// limitTo sets the deadline of a Conn. Any goroutine may call it.
func (in *inbound) limitTo(deadline time.Time) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.wait.limited = deadline
	in.wait.stir()
	if in.end.closing.Load() || in.end.halted.Load() {
		return nil
	}
	return in.conn.SetReadDeadline(earliest(in.wait.armed, deadline)) // Of a wait that is over, armed does no harm: the next one sets its own.
}

// inUse says, when a wait has lasted too long, whether that is no inactivity, because this side is
// busy for the peer, or whether nobody wants the memory that a message has held meanwhile.
func (in *inbound) inUse() bool {
	if in.wait.reason == errHolding {
		return !in.input.memory.Contested()
	}
	if in.wait.reason != nil || in.busy == nil || !in.busy() {
		return false
	}
	in.wait.waitAt = time.Time{}
	return true
}

// pastArmed says whether the present wait has lasted too long. If not, another deadline has ended
// it that was changed since.
func (in *inbound) pastArmed() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.wait.armed.IsZero() && !time.Now().Before(in.wait.armed)
}

// untilLimit returns a channel that tells of the deadline of a Conn; nil for none.
func (in *inbound) untilLimit() <-chan time.Time {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.wait.limited.IsZero() {
		return nil
	}
	return time.After(time.Until(in.wait.limited))
}

// pastLimit says whether the deadline of a Conn has passed.
func (in *inbound) pastLimit() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.wait.limited.IsZero() && !time.Now().Before(in.wait.limited)
}

// atRest says whether the connection is at the boundary of a message.
func (in *inbound) atRest() bool { return in.midway() == 0 && in.oversize.skip == 0 }

// untouched says whether nothing was ever read from it.
func (in *inbound) untouched() bool { return !in.resumed && in.counts.receivedBytes.Load() == 0 }
