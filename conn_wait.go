// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how long a receiving connection waits, and how it ends.

import (
	"time"
)

const (
	closeGrace  = time.Second            // How long a peer may take to answer the goodbye.
	goodbyeWait = 100 * time.Millisecond // How long the goodbye itself may take.
)

// arm sets the deadline of the next wait.
func (in *inbound) arm() error {
	in.mu.Lock()
	defer in.mu.Unlock()
	var deadline time.Time
	switch {
	case in.halted.Load():
		deadline = aLongTimeAgo
	case in.shut:
	case in.closing.Load() && in.graceEnd.IsZero():
		deadline = aLongTimeAgo // requestClose came in between: the goodbye is still to be said.
	case in.closing.Load():
		deadline = in.graceEnd
	case in.silence > 0:
		deadline = in.silentAt(time.Now())
	case in.idle > 0:
		deadline = time.Now().Add(in.idle)
	}
	return in.conn.SetReadDeadline(deadline)
}

// silentAt is when a wait that begins now has lasted too long in a session with heartbeats, which
// count for the silence and not for the inactivity.
func (in *inbound) silentAt(now time.Time) time.Time {
	if received := in.counts.received.Load(); received != in.lastWas || in.lastAt.IsZero() {
		in.lastAt, in.lastWas = now, received
	}
	deadline := now.Add(in.silence)
	if in.idle > 0 && in.lastAt.Add(in.idle).Before(deadline) {
		return in.lastAt.Add(in.idle)
	}
	return deadline
}

// halt ends the connection as soon as the handler that runs has returned. Any goroutine may call it.
func (in *inbound) halt() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.halted.Store(true)
	_ = in.conn.SetReadDeadline(aLongTimeAgo)
}

// requestClose ends the connection gracefully: the peer is kept from writing more, or asked not to,
// and what it has written by then is handled. Any goroutine may call it.
func (in *inbound) requestClose() {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.closing.Load() {
		return
	}
	in.closing.Store(true) // First: the reading goroutine may see the end of the stream at once.
	in.shut = shutReceiving(in.conn)
	if !in.shut {
		_ = in.conn.SetReadDeadline(aLongTimeAgo) // Wakes the reading goroutine, which says goodbye.
	}
}

// over says goodbye where that is needed, and whether the time for an answer is over.
func (in *inbound) over() bool {
	in.mu.Lock()
	shut := in.shut
	if !shut && in.graceEnd.IsZero() {
		in.graceEnd = time.Now().Add(closeGrace)
	}
	in.mu.Unlock()
	if shut {
		return false
	}
	in.sayGoodbye()
	return !time.Now().Before(in.graceEnd)
}

// sayGoodbye does so once. A peer that cannot be told is treated like one that was.
func (in *inbound) sayGoodbye() {
	if in.said {
		return
	}
	in.said = true
	in.tellHandled()
	_ = in.conn.SetWriteDeadline(time.Now().Add(goodbyeWait))
	_, _ = in.conn.Write(goodbye)
}
