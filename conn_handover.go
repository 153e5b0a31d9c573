// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file brings a receiving connection to rest at the boundary of a message, for the next process.

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"
)

// errNotSocket is why a connection cannot be handed over.
var errNotSocket = errors.New("not a plain Unix or TCP socket (TLS or in-memory)")

// A handOver is what becomes of a connection that the next process is to have.
type handOver struct {
	requested   atomic.Bool           // From the next boundary of a message on.
	deadline    time.Time             // When to wait for that no longer. The reading goroutine's own.
	handOverErr atomic.Pointer[error] // Why the next process does not get it.
}

// requestHandOver has the connection come to rest at the next boundary of a message, for the next
// process. What cannot be handed over is ended gracefully. Any goroutine may call it.
func (in *inbound) requestHandOver() {
	if _, ok := in.conn.(syscall.Conn); !ok || in.raw == nil {
		in.handOver.handOverErr.Store(&errNotSocket)
		in.requestClose(closeOrderly)
		return
	}
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	if in.handOver.requested.Load() || in.end.closing.Load() {
		return
	}
	in.handOver.requested.Store(true)
	_ = in.conn.SetReadDeadline(aLongTimeAgo) // Wakes the reading goroutine,
	in.wait.signalRecheck()                   // also if it waits for memory.
}

// beginHandOver notes since when the rest of a message is waited for.
func (in *inbound) beginHandOver() {
	if in.handOver.deadline.IsZero() {
		in.handOver.deadline = time.Now().Add(closeGrace)
	}
}

// expireHandOver ends a connection gracefully that does not come to rest.
func (in *inbound) expireHandOver() {
	if !in.handOver.requested.Load() || in.end.closing.Load() || in.atFrameBoundary() {
		return
	}
	if in.handOver.deadline.IsZero() || time.Now().Before(in.handOver.deadline) {
		return
	}
	why := fmt.Errorf("%w: message incomplete after %v: %d bytes received", errTooSlow, closeGrace, in.partialBytes())
	in.handOver.handOverErr.Store(&why)
	in.requestClose(closeOrderly)
}

// handOverError returns why the next process does not get the connection; nil if nothing is in the
// way.
func (in *inbound) handOverError() error {
	if why := in.handOver.handOverErr.Load(); why != nil {
		return *why
	}
	return nil
}

// refuseHandOver ends the connection gracefully instead of handing it over.
func (in *inbound) refuseHandOver(why error) {
	if why != nil {
		in.handOver.handOverErr.Store(&why)
	}
	in.requestClose(closeOrderly)
}

// handOverSocket returns the socket of a connection that is at rest for a hand-over.
func (in *inbound) handOverSocket() syscall.Conn { return in.conn.(syscall.Conn) }
