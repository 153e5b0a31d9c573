// SPDX-License-Identifier: Apache-2.0

package transport

// This file has the vectored write of a sending connection, and its timeout.

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// minWriteWait is the least time after which a write may time out: an earlier timeout does not come
// from the deadline.
const minWriteWait = 10 * time.Millisecond

// A writeStall reports slow writes of TLS, which cannot have a deadline.
type writeStall struct {
	timer   *time.Timer // Fires during a slow write; nil without TLS.
	writing atomic.Bool
}

// setDeadline sets the deadline of one write to now+timeout, unless writeStopped is set.
func (o *Out) setDeadline(now time.Time, timeout time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writeStopped.Load() {
		return ErrGracefulEnd
	}
	o.deadlineSetAt = now
	o.interrupted.Store(false) // It was meant for an earlier write.
	if o.isTLS() {
		// A TLS connection is corrupt after a timeout: no deadline.
		return o.conn.SetWriteDeadline(time.Time{})
	}
	return o.conn.SetWriteDeadline(now.Add(timeout))
}

// Write writes bufs and returns the number of bytes that the kernel has taken, also with an error.
// After a timeout the rest may be written to the same connection if resumable returns true.
func (o *Out) Write(bufs [][]byte) (int, error) { return o.WriteWithin(bufs, o.timeout) }

// WriteWithin is Write with a timeout of its own, if that is shorter than the one of o. AfterTimeout
// would not expect that.
func (o *Out) WriteWithin(bufs [][]byte, timeout time.Duration) (int, error) {
	if o.end.tryFailed != nil {
		return 0, o.end.tryFailed
	}
	now := time.Now()
	o.probe(now)
	if err := o.setDeadline(now, min(timeout, o.timeout)); err != nil {
		return 0, err
	}
	if o.stall.timer != nil {
		o.stall.writing.Store(true)
		o.stall.timer.Reset(o.timeout)
	}
	o.vector = bufs
	n, err := o.vector.WriteTo(o.conn)
	clear(o.vector) // What is left of bufs would keep its memory from the garbage collector.
	o.vector = nil
	if o.stall.timer != nil {
		o.stall.writing.Store(false)
		o.stall.timer.Stop()
	}
	o.bytes.Add(n)
	o.end.cutShort = n > 0 && errors.Is(err, syscall.EPIPE)
	return int(n), err
}

// resumable reports whether the connection can continue after a write timeout. A TLS connection is
// corrupt then (crypto/tls, Conn.SetWriteDeadline).
func (o *Out) resumable() bool { return !o.isTLS() && !o.writeStopped.Load() }

// OnSlowWrite sets a function to call each time a write has waited for the timeout, if the
// connection uses TLS. Other writes return.
func (o *Out) OnSlowWrite(tell func()) {
	if !o.isTLS() {
		return
	}
	o.stall.timer = time.AfterFunc(time.Hour, func() {
		o.mu.Lock()
		waited := time.Since(o.deadlineSetAt)
		o.mu.Unlock()
		if !o.stall.writing.Load() {
			return
		}
		if waited >= o.timeout { // Otherwise the timer was set for an earlier write.
			tell()
		}
		o.stall.timer.Reset(o.timeout)
	})
	o.stall.timer.Stop()
}

// CanTryWrite reports whether TryWrite may be called.
func (o *Out) CanTryWrite() bool {
	if o.kind != otherConn && o.try == nil {
		o.try = NewTryWriter(o.conn)
	}
	return o.try != nil
}

// TryWrite is Write without waiting: it returns EAGAIN with a part of b or nothing if the
// connection takes no more now. The kernel reports an error of the connection once; Write returns
// it again.
func (o *Out) TryWrite(b []byte) (n int, err error) {
	now := time.Now()
	o.probe(now)
	if err := o.setDeadline(now, o.timeout); err != nil {
		return 0, err
	}
	o.tryBuf[0] = b
	n, full, err := o.try.Write(o.tryBuf[:])
	o.tryBuf[0] = nil
	o.bytes.Add(int64(n))
	o.end.cutShort = n > 0 && errors.Is(err, syscall.EPIPE)
	if !full && !IsTimeout(err) {
		o.end.tryFailed = err
	}
	return n, err
}

// WriteInterrupter returns a function that interrupts a write that has waited for a while, or nil
// if that is not possible. Any goroutine may call the function.
func (o *Out) WriteInterrupter() func() {
	if o.kind == otherConn {
		return nil
	}
	return o.interruptWrite
}

// TakeInterrupt reports whether the last write was interrupted by the function of WriteInterrupter. It
// returns true once.
func (o *Out) TakeInterrupt() bool { return o.interrupted.Swap(false) }

// AfterTimeout handles a write that took n bytes and failed with err. It returns an error if the
// connection cannot continue. waited reports that the peer has blocked the write for the timeout.
func (o *Out) AfterTimeout(n int, err error) (waited bool, _ error) {
	switch {
	case !IsTimeout(err) || !o.resumable():
		return false, err
	case o.TakeInterrupt():
		return false, nil
	case n == 0 && time.Since(o.deadlineSetAt) < min(o.timeout, minWriteWait):
		// All later writes fail too.
		return false, fmt.Errorf("%w: a write fails by a timeout before its time: %v", errdefs.ErrConnectionClosed, err)
	}
	return true, nil
}
