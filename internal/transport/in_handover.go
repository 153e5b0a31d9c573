// SPDX-License-Identifier: Apache-2.0

package transport

// This file pauses a receiving connection at a frame boundary, for the next process.

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// errNotSocket is the error for a connection that cannot be handed over.
var errNotSocket = errors.New("not a plain Unix or TCP socket (TLS or in-memory)")

// A handOver is the state of handing a connection over.
type handOver struct {
	requested   atomic.Bool           // Pause at the next frame boundary.
	deadline    time.Time             // The time limit for reaching it. Owned by the reading goroutine.
	handOverErr atomic.Pointer[error] // Why the connection is not handed over.
}

// RequestHandOver pauses the connection at the next frame boundary, for the next process. A
// connection that cannot be handed over is closed gracefully. Any goroutine may call it.
func (in *In) RequestHandOver() {
	if _, ok := in.conn.(syscall.Conn); !ok || in.raw == nil {
		in.handOver.handOverErr.Store(&errNotSocket)
		in.RequestClose(wire.CloseOrderly)
		return
	}
	in.pause()
}

// pause requests the pause at the next frame boundary.
func (in *In) pause() {
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	if in.handOver.requested.Load() || in.end.closing.Load() {
		return
	}
	in.handOver.requested.Store(true)
	_ = in.setReadDeadlineLocked(PastDeadline) // Wakes the reading goroutine,
	in.wait.signalRecheck()                    // also if it waits for memory.
}

// beginHandOver sets the deadline for an incomplete message.
func (in *In) beginHandOver() {
	if in.handOver.deadline.IsZero() {
		in.handOver.deadline = time.Now().Add(CloseGrace)
	}
}

// expireHandOver gracefully closes a connection that has not reached a frame boundary in time.
func (in *In) expireHandOver() {
	if !in.handOver.requested.Load() || in.end.closing.Load() || in.atFrameBoundary() {
		return
	}
	if in.handOver.deadline.IsZero() || time.Now().Before(in.handOver.deadline) {
		return
	}
	cause := fmt.Errorf("%w: message incomplete after %v: %d bytes received", errdefs.ErrTooSlow,
		CloseGrace, in.PartialBytes())
	in.handOver.handOverErr.Store(&cause)
	in.RequestClose(wire.CloseOrderly)
}

// HandOverError returns the reason why the connection cannot be handed over, or nil.
func (in *In) HandOverError() error {
	if cause := in.handOver.handOverErr.Load(); cause != nil {
		return *cause
	}
	return nil
}

// RefuseHandOver closes the connection gracefully instead of handing it over. cause may be nil.
func (in *In) RefuseHandOver(cause error) {
	if cause != nil {
		in.handOver.handOverErr.Store(&cause)
	}
	in.RequestClose(wire.CloseOrderly)
}

// HandOverSocket returns the socket of a connection that is paused for a hand-over.
func (in *In) HandOverSocket() syscall.Conn { return in.conn.(syscall.Conn) }
