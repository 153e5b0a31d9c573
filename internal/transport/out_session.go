// SPDX-License-Identifier: Apache-2.0

package transport

// This file is the writer's end of a session: the session handshake, after which messages may be
// sent, and the acknowledgements.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// interruptAfter is the time after which a blocked write is interrupted if its messages are
// acknowledged, so that they leave the queue.
const interruptAfter = 10 * time.Millisecond

// An interrupted write delays no heartbeat: the compiler rejects a negative uint64.
const _ = uint64(wire.MinHeartbeatTimeout/wire.HeartbeatsPerTimeout - interruptAfter)

// A backChannel has the bytes from the reader of a session. SessionHandshake reads it first, then ReadLoop.
type backChannel struct {
	acknowledge       func(handled uint64) (early bool, err error)
	heartbeatTimeout  time.Duration // Longest time without a byte of the reader; 0 disables it.
	heartbeatInterval time.Duration // Interval of heartbeats that the reader expects; 0 for none.
	progress          atomic.Bool   // A message was acknowledged.

	buf  [backBufferSize]byte // buf[r:w] was read and is not parsed yet.
	r, w int
}

// backBufferSize is enough for the largest input that is parsed as a whole: a welcome, or a goodbye
// with its report.
const backBufferSize = 1 + wire.MaxPrefixSize + wire.MaxHandshakeBody

// The compiler rejects a negative uint64.
const _ = uint64(backBufferSize - wire.MaxPrefixSize - wire.MaxHandshakeBody)

// readMore reads more bytes, until the read deadline of the connection at most.
func (o *Out) readMore() error {
	b := o.back
	b.w = copy(b.buf[:], b.buf[b.r:b.w])
	b.r = 0
	if b.w == len(b.buf) {
		return fmt.Errorf("%w: %d bytes that mean nothing", wire.ErrHandshakeFormat, b.w)
	}
	n, err := o.conn.Read(b.buf[b.w:])
	if b.w += n; n > 0 {
		return nil // The next read returns the error.
	}
	return err
}

// HandshakeHooks are the settings of a session handshake, and the functions that it calls.
type HandshakeHooks struct {
	// HeartbeatTimeout is the longest time without a byte of the reader, where the kernel does not
	// report a lost peer; 0 disables it.
	HeartbeatTimeout time.Duration

	// Acknowledge is called by ReadLoop. early means that the message may be in a write that has
	// not returned.
	Acknowledge func(handled uint64) (early bool, err error)

	SlowAfter time.Duration // After this time, OnSlow is called.
	OnSlow    func()
	Cancelled func() bool // Called after each interruption of the wait.
}

// SessionHandshake sends the hello and waits for the welcome. No message may be written before it
// returns.
func (o *Out) SessionHandshake(h wire.Hello, g HandshakeHooks) (wire.Welcome, error) {
	o.back = &backChannel{acknowledge: g.Acknowledge}
	if o.kind != unixSocket {
		h.HeartbeatTimeout, o.back.heartbeatTimeout = g.HeartbeatTimeout, g.HeartbeatTimeout
	}
	if err := o.conn.SetWriteDeadline(time.Now().Add(o.timeout)); err != nil {
		return wire.Welcome{}, err
	}
	_, unsent := o.conn.Write(h.Append(nil))
	if unsent != nil && !isConnectionEnd(unsent) {
		return wire.Welcome{}, unsent
	}
	slowAt := time.Now().Add(g.SlowAfter)
	heard := time.Now()
	for {
		w, size, err := o.back.welcome()
		if err != nil || size > 0 {
			o.back.heartbeatInterval = w.HeartbeatTimeout / wire.HeartbeatsPerTimeout
			return w, err
		}
		// Set the deadline, then call Cancelled: the goroutine that cancels changes the result of
		// Cancelled first, then the deadline.
		if err := o.conn.SetReadDeadline(o.handshakeDeadline(slowAt, heard)); err != nil {
			return w, err
		}
		if g.Cancelled() {
			return w, errdefs.ErrStopped
		}
		err = o.readMore()
		now := time.Now()
		switch {
		case err == nil:
			heard = now
		case !IsTimeout(err):
			if unsent != nil { // The peer has not read the hello, so its end is no answer.
				err = unsent
			}
			return w, o.back.noWelcomeErr(err)
		case unsent != nil:
			return w, o.back.noWelcomeErr(unsent) // The peer has closed without a reason.
		case o.back.heartbeatTimeout > 0 && now.Sub(heard) >= o.back.heartbeatTimeout:
			return w, o.heartbeatTimeoutErr()
		case !slowAt.IsZero() && !now.Before(slowAt):
			slowAt = time.Time{}
			g.OnSlow()
		}
	}
}

// handshakeDeadline returns the time at which the wait for the welcome is interrupted: to call
// OnSlow, or by the heartbeat timeout.
func (o *Out) handshakeDeadline(slowAt, heard time.Time) time.Time {
	if o.back.heartbeatTimeout == 0 {
		return slowAt
	}
	if timeoutAt := heard.Add(o.back.heartbeatTimeout); slowAt.IsZero() || timeoutAt.Before(slowAt) {
		return timeoutAt
	}
	return slowAt
}

// welcome parses the bytes so far. The reader may send heartbeats before the welcome, or a goodbye
// instead.
func (b *backChannel) welcome() (w wire.Welcome, size int, err error) {
	for bytes.HasPrefix(b.buf[b.r:b.w], wire.Heartbeat) {
		b.r += len(wire.Heartbeat)
	}
	rest := b.buf[b.r:b.w]
	if bytes.HasPrefix(rest, wire.Goodbye) {
		report, size, err := wire.ParseCloseReport(rest[len(wire.Goodbye):])
		if err == nil && size > 0 {
			err = fmt.Errorf("before the welcome: %w", endError(report))
		}
		if report.Reason == wire.CloseMalformed { // It takes the preface for a length.
			err = fmt.Errorf("%w: %w", errdefs.ErrAcksUnsupported, err)
		}
		return w, 0, err
	}
	w, size, err = wire.ParseWelcome(rest)
	switch {
	case errors.Is(err, wire.ErrVersion):
		return w, 0, fmt.Errorf("%w: %w", errdefs.ErrAcksUnsupported, err)
	case err == nil && size > 0 && w.Status == wire.StatusOldEpoch:
		return w, 0, fmt.Errorf("%w: %w", errdefs.ErrConnectionClosed, ErrSuperseded)
	case err == nil && size > 0 && w.Status != wire.StatusWelcome:
		return w, 0, fmt.Errorf("%w: the reader refuses the session: %v", errdefs.ErrConnectionClosed, w.Status)
	}
	b.r += size
	return w, size, err
}

// ErrNoWelcome matches the error of a connection that the peer has ended cleanly, but without a
// welcome or a goodbye.
var ErrNoWelcome = errors.New("the peer has not answered the hello")

// ErrSuperseded matches the error of a session that the reader refuses because it knows of a later attempt
// of this writer.
var ErrSuperseded = fmt.Errorf("the reader refuses the session: %v", wire.StatusOldEpoch)

// noWelcomeErr returns the error of a connection that ended without a welcome. A reader that is
// killed at that moment looks like one that does not support acknowledgements. But it does so once, and
// it mostly leaves the hello unread, so that the end is not clean.
func (b *backChannel) noWelcomeErr(err error) error {
	switch {
	case bytes.HasPrefix(b.buf[b.r:b.w], wire.Goodbye):
		return fmt.Errorf("before the welcome: %w", endError(wire.CloseReport{}))
	case errors.Is(err, io.EOF):
		return fmt.Errorf("%w: %w: %w", errdefs.ErrConnectionClosed, ErrNoWelcome, err)
	case isConnectionEnd(err):
		return fmt.Errorf("%w before the welcome: %w", errdefs.ErrConnectionClosed, err)
	}
	return err
}

// isConnectionEnd reports whether err means that the peer has closed the connection.
func isConnectionEnd(err error) bool {
	for _, end := range []error{io.EOF, io.ErrClosedPipe, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

func (o *Out) heartbeatTimeoutErr() error {
	return fmt.Errorf("%w: nothing came for %v (WithHeartbeatTimeout)", errdefs.ErrHeartbeatTimeout,
		o.back.heartbeatTimeout)
}

// readAcks is ReadLoop in a session: it passes acknowledgements to the queue. It returns why it ended.
func (o *Out) readAcks(wake func()) error {
	for {
		if err := o.handleAcks(wake); err != nil {
			return err
		}
		var deadline time.Time
		if o.back.heartbeatTimeout > 0 {
			deadline = time.Now().Add(o.back.heartbeatTimeout)
		}
		if err := o.conn.SetReadDeadline(deadline); err != nil {
			return err
		}
		if err := o.readMore(); IsTimeout(err) {
			return o.heartbeatTimeoutErr()
		} else if err != nil {
			return err
		}
	}
}

// handleAcks handles all buffered input. Of several acknowledgements the last one counts.
func (o *Out) handleAcks(wake func()) error {
	b := o.back
	var last uint64
	for {
		handled, alive, size, err := wire.ParseAck(b.buf[b.r:b.w])
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		b.r += size
		switch {
		case alive:
		case handled == 0:
			o.onGoodbye(wake)
		case handled <= last:
			return fmt.Errorf("%w: message %d after message %d", wire.ErrAcknowledgement, handled, last)
		default:
			last = handled
		}
	}
	if last == 0 {
		return nil
	}
	b.progress.Store(true)
	early, err := b.acknowledge(last)
	if early {
		o.interruptWrite()
	}
	return err
}

// interruptWrite interrupts a blocked write.
func (o *Out) interruptWrite() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.resumable() && time.Since(o.deadlineSetAt) >= interruptAfter {
		o.interrupted.Store(true)
		_ = o.conn.SetWriteDeadline(PastDeadline)
	}
}

// SendHeartbeat writes a heartbeat. The caller is at a frame boundary.
func (o *Out) SendHeartbeat() error {
	if err := o.setDeadline(time.Now(), o.timeout); err != nil {
		return err
	}
	_, err := o.conn.Write(wire.Heartbeat)
	if err != nil && !o.writeStopped.Load() {
		_ = o.conn.Close() // A part of a heartbeat may have been written.
	}
	return err
}
