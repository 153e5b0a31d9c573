// SPDX-License-Identifier: Apache-2.0

package transport

// This file is the vectored write of a sending connection, and what it means that one has waited.

import (
	"errors"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// minWriteWait bounds the time of a write that has not waited at all: it times out of its own accord.
const minWriteWait = 10 * time.Millisecond

// A writeStall watches writes that cannot have a deadline, because they speak TLS.
type writeStall struct {
	timer   *time.Timer // Tells of one that waits; nil without TLS.
	writing atomic.Bool
}

// setDeadline sets the deadline of one write, unless writing was stopped.
func (o *Out) setDeadline(now time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.writeStopped.Load() {
		return ErrGracefulEnd
	}
	o.deadlineSetAt = now
	if o.isTLS() {
		return o.conn.SetWriteDeadline(time.Time{}) // A TLS connection is corrupt after a timeout: it waits.
	}
	return o.conn.SetWriteDeadline(now.Add(o.timeout))
}

// Write hands bufs to the kernel and returns how many bytes it took, whatever the error. After a
// timeout the rest may be written to the same connection if AfterTimeout returns no error.
func (o *Out) Write(bufs [][]byte) (int, error) {
	now := time.Now()
	o.probe(now)
	if err := o.setDeadline(now); err != nil {
		return 0, err
	}
	if o.stall.timer != nil {
		o.stall.writing.Store(true)
		o.stall.timer.Reset(o.timeout)
	}
	o.vector = bufs
	n, err := o.vector.WriteTo(o.conn)
	if o.stall.timer != nil {
		o.stall.writing.Store(false)
		o.stall.timer.Stop()
	}
	o.bytes.Add(n)
	o.end.cutShort = n > 0 && errors.Is(err, syscall.EPIPE)
	return int(n), err
}

// resumable says whether the connection goes on after a write timed out. A TLS connection is corrupt
// then (crypto/tls, Conn.SetWriteDeadline).
func (o *Out) resumable() bool { return !o.isTLS() && !o.writeStopped.Load() }

// OnSlowWrite has tell called whenever a write has waited for its timeout again, if the connection
// speaks TLS. The others return from their write.
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
		if waited >= o.timeout { // Else it is the write after the one that the timer was set for.
			tell()
		}
		o.stall.timer.Reset(o.timeout)
	})
	o.stall.timer.Stop()
}

// AfterTimeout reports whether the connection goes on after a write that took n bytes failed with
// err, and if so, whether the peer has made it wait for the timeout.
func (o *Out) AfterTimeout(n int, err error) (waited bool, _ error) {
	switch {
	case !IsTimeout(err) || !o.resumable():
		return false, err
	case o.interrupted.Swap(false):
		return false, nil
	case n == 0 && time.Since(o.deadlineSetAt) < min(o.timeout, minWriteWait):
		return false, fmt.Errorf("%w: a write fails by a timeout before its time: %v", errdefs.ErrConnectionClosed, err) // And so will all.
	}
	return true, nil
}
