// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how long a receiving connection waits; conn_end.go is how it ends.

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// attemptTime is left for an attempt to read after a deadline that had passed before one was made: behind a deadline
// none is made at all, and the wait would never come to an end.
const attemptTime = 5 * time.Millisecond

// arm sets the deadline of the next wait.
func (in *inbound) arm() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	var deadline time.Time
	switch {
	case in.halted.Load():
		deadline = aLongTimeAgo
	case in.shut:
	case in.closing.Load() && !in.said:
		deadline = aLongTimeAgo // requestClose came in between: the goodbye is still to be said.
	case in.closing.Load():
		deadline = in.grace.wait(time.Now(), in.counts.receivedBytes.Load())
	case in.handing.Load() && in.atRest():
		deadline = aLongTimeAgo // requestHandOver came in between.
	case in.handing.Load():
		in.beginHandOver()
		deadline = in.handEnd
	default:
		now := time.Now()
		in.armed = in.tooLong(now)
		deadline = in.armed
		if soonest := now.Add(attemptTime); in.missed && !in.tried && !deadline.IsZero() && deadline.Before(soonest) {
			deadline = soonest
		}
		deadline = earliest(deadline, in.limited)
	}
	return in.conn.SetReadDeadline(deadline)
}

// earliest returns the earlier of two deadlines, of which each may be zero for never.
func earliest(a, b time.Time) time.Time {
	if b.IsZero() || !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}

// tooLong is when a wait that begins now, or goes on, has lasted too long, and notes for what.
func (in *inbound) tooLong(now time.Time) (deadline time.Time) {
	in.reason = nil
	until := func(at time.Time, reason func() error) {
		if deadline.IsZero() || at.Before(deadline) {
			deadline = at
			if in.reason = nil; reason != nil {
				in.reason = reason()
			}
		}
	}
	if in.waitAt.IsZero() {
		in.waitAt = now
	}
	received := in.counts.received.Load()
	frames := received + in.refused // That came, or have begun to be passed over.
	if received != in.lastWas || in.lastAt.IsZero() {
		in.lastAt, in.lastWas = now, received
	}
	switch {
	case in.idle > 0 && in.silence > 0:
		until(in.lastAt.Add(in.idle), nil) // Heartbeats do not count.
	case in.idle > 0:
		until(in.waitAt.Add(in.idle), nil)
	}
	if in.silence > 0 {
		until(in.waitAt.Add(in.silence), in.silent)
	}
	if in.first > 0 && (frames == 0 || frames == 1 && in.skip > 0) && in.session == nil && !in.resumed {
		until(in.began.Add(in.first), in.late)
	}
	if in.atRest() {
		in.frameAt = time.Time{}
		return deadline
	}
	if in.skip > 0 {
		frames-- // It is the one that is still to come.
	}
	if in.frameAt.IsZero() || frames != in.frameWas {
		in.frameAt, in.frameWas = now, frames
	}
	if in.frame > 0 {
		until(in.frameAt.Add(in.frame), in.slow)
	}
	if in.loan.bytes > 0 {
		until(in.heldTooLong(now), func() error { return errHolding })
	}
	return deadline
}

// limitTo sets the deadline of a Conn. Any goroutine may call it.
func (in *inbound) limitTo(deadline time.Time) error {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.limited = deadline
	in.stir()
	if in.closing.Load() || in.halted.Load() {
		return nil
	}
	return in.conn.SetReadDeadline(earliest(in.armed, deadline)) // Of a wait that is over, armed does no harm: the next one sets its own.
}

// inUse says, when a wait has lasted too long, whether that is no inactivity, because this side is busy for the peer, or
// whether nobody wants the memory that a message has held meanwhile.
func (in *inbound) inUse() bool {
	if in.reason == errHolding {
		return !in.memory.Contested()
	}
	if in.reason != nil || in.busy == nil || !in.busy() {
		return false
	}
	in.waitAt = time.Time{}
	return true
}

// pastArmed says whether the present wait has lasted too long. If not, another deadline has ended it that was changed since.
func (in *inbound) pastArmed() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.armed.IsZero() && !time.Now().Before(in.armed)
}

// untilLimit returns a channel that tells of the deadline of a Conn; nil for none.
func (in *inbound) untilLimit() <-chan time.Time {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.limited.IsZero() {
		return nil
	}
	return time.After(time.Until(in.limited))
}

// stir has a wait for memory look again what ends it.
func (in *inbound) stir() {
	select {
	case in.stirred <- struct{}{}:
	default:
	}
}

// pastLimit says whether the deadline of a Conn has passed.
func (in *inbound) pastLimit() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	return !in.limited.IsZero() && !time.Now().Before(in.limited)
}

func (in *inbound) silent() error {
	return fmt.Errorf("%w: nothing came for %v (WithPeerTimeout)", errPeerSilent, in.silence)
}

func (in *inbound) late() error {
	if in.atRest() {
		return nil // It has been idle ever since.
	}
	return fmt.Errorf("%w: its first message is not there whole after %v (WithFirstMessageTimeout)", errTooSlow, in.first)
}

func (in *inbound) slow() error {
	if in.skip > 0 {
		return fmt.Errorf("%w: a message over the limit has not come to its end %v after its first byte, %d bytes are missing (WithMessageTimeout)", errTooSlow, in.frame, in.skip)
	}
	return fmt.Errorf("%w: a message is not there whole %v after its first byte, but %d bytes of it (WithMessageTimeout)", errTooSlow, in.frame, in.midway())
}

// leave wakes the reading goroutine if it waits for memory.
func (in *inbound) leave() { in.goneOnce.Do(func() { close(in.gone) }) }

// halt ends the connection as soon as the handler that runs has returned. Any goroutine may call it.
func (in *inbound) halt() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.halted.Store(true)
	in.leave()
	_ = in.conn.SetReadDeadline(aLongTimeAgo)
}

// errNotPlain is why a connection cannot be handed over.
var errNotPlain = errors.New("only a connection over a bare socket can be handed over: not one with TLS, and none in memory")

// requestHandOver has the connection come to rest at the next boundary of a message, for the next process. What
// cannot be handed over is ended gracefully. Any goroutine may call it.
func (in *inbound) requestHandOver() {
	if _, ok := in.conn.(syscall.Conn); !ok || in.raw == nil {
		in.unfit.Store(&errNotPlain)
		in.requestClose(endOrderly)
		return
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.handing.Load() || in.closing.Load() {
		return
	}
	in.handing.Store(true)
	_ = in.conn.SetReadDeadline(aLongTimeAgo) // Wakes the reading goroutine,
	in.stir()                                 // also if it waits for memory.
}

// beginHandOver notes since when the rest of a message is waited for.
func (in *inbound) beginHandOver() {
	if in.handEnd.IsZero() {
		in.handEnd = time.Now().Add(closeGrace)
	}
}

// tooLate ends a connection gracefully that does not come to rest.
func (in *inbound) tooLate() {
	if !in.handing.Load() || in.closing.Load() || in.atRest() || in.handEnd.IsZero() || time.Now().Before(in.handEnd) {
		return
	}
	why := fmt.Errorf("%w: a message is not there whole after %v, but %d bytes of it", errTooSlow, closeGrace, in.midway())
	in.unfit.Store(&why)
	in.requestClose(endOrderly)
}

// atRest says whether the connection is at the boundary of a message.
func (in *inbound) atRest() bool { return in.midway() == 0 && in.skip == 0 }

// untouched says whether nothing was ever read from it.
func (in *inbound) untouched() bool { return !in.resumed && in.counts.receivedBytes.Load() == 0 }
