// SPDX-License-Identifier: Apache-2.0

package transport

// This file is the writer's end of a session: the session handshake, after which messages may flow, and
// the acknowledgements that come back.

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

// interruptAfter is how long a write may hang before an acknowledgement of its own messages interrupts it,
// so that they leave the queue.
const interruptAfter = 10 * time.Millisecond

const _ = uint64(wire.MinHeartbeatTimeout/wire.HeartbeatsPerTimeout - interruptAfter) // An interrupted write costs no heartbeat, or does not compile.

// A backChannel has the bytes from the reader of a session. SessionHandshake reads it first, then ReadLoop.
type backChannel struct {
	acknowledge       func(handled uint64) (early bool, err error)
	heartbeatTimeout  time.Duration // The longest that the reader may say nothing; 0 for any.
	heartbeatInterval time.Duration // How often the reader wants to hear something; 0 for never.
	progress          atomic.Bool   // Something was acknowledged.

	buf  [backBufferSize]byte // buf[r:w] was read and is not parsed yet.
	r, w int
}

// backBufferSize has room for whatever cannot be parsed before it is whole: a welcome, or a goodbye with
// its report.
const backBufferSize = 1 + wire.MaxPrefixSize + wire.MaxHandshakeBody

const _ = uint64(backBufferSize - wire.MaxPrefixSize - wire.MaxHandshakeBody) // No constant of type uint64 is negative.

// readMore reads more, until the read deadline of the connection at most.
func (o *Out) readMore() error {
	b := o.back
	b.w = copy(b.buf[:], b.buf[b.r:b.w])
	b.r = 0
	if b.w == len(b.buf) {
		return fmt.Errorf("%w: %d bytes that mean nothing", wire.ErrHandshakeFormat, b.w)
	}
	n, err := o.conn.Read(b.buf[b.w:])
	if b.w += n; n > 0 {
		return nil // An error will come again.
	}
	return err
}

// HandshakeHooks are the settings of a session handshake, and the functions that it calls.
type HandshakeHooks struct {
	// HeartbeatTimeout is the longest that the reader may say nothing, where the kernel does not tell of its end; 0 for any.
	HeartbeatTimeout time.Duration

	// Acknowledge is called by ReadLoop. early means that the message may still be in a write.
	Acknowledge func(handled uint64) (early bool, err error)

	SlowAfter time.Duration // After this time, OnSlow is called.
	OnSlow    func()
	Cancelled func() bool // Asked whenever the wait was interrupted.
}

// SessionHandshake says hello and waits for the welcome. No message may be written before that.
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
		// The deadline comes before the question: whoever ends the wait changes the answer first,
		// then the deadline.
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
			return w, o.back.noWelcomeErr(err)
		case unsent != nil:
			return w, o.back.noWelcomeErr(unsent) // The peer, which reads no more, has not said why.
		case o.back.heartbeatTimeout > 0 && now.Sub(heard) >= o.back.heartbeatTimeout:
			return w, o.heartbeatTimeoutErr()
		case !slowAt.IsZero() && !now.Before(slowAt):
			slowAt = time.Time{}
			g.OnSlow()
		}
	}
}

// handshakeDeadline is when the wait for the welcome is interrupted: to say that it takes long, or
// because the reader says nothing at all.
func (o *Out) handshakeDeadline(slowAt, heard time.Time) time.Time {
	if o.back.heartbeatTimeout == 0 {
		return slowAt
	}
	if timeoutAt := heard.Add(o.back.heartbeatTimeout); slowAt.IsZero() || timeoutAt.Before(slowAt) {
		return timeoutAt
	}
	return slowAt
}

// welcome parses what has come so far. The reader may have sent heartbeats before the welcome, or
// end the connection instead.
func (b *backChannel) welcome() (w wire.Welcome, size int, err error) {
	for bytes.HasPrefix(b.buf[b.r:b.w], wire.Heartbeat) {
		b.r += len(wire.Heartbeat)
	}
	rest := b.buf[b.r:b.w]
	if bytes.HasPrefix(rest, wire.Goodbye) {
		report, size, err := wire.ParseCloseReport(rest[len(wire.Goodbye):])
		if err == nil && size > 0 {
			err = fmt.Errorf("before the welcome: %w", endError(report.Reason))
		}
		return w, 0, err
	}
	w, size, err = wire.ParseWelcome(rest)
	switch {
	case errors.Is(err, wire.ErrVersion):
		return w, 0, fmt.Errorf("%w: %w", errdefs.ErrAcksUnsupported, err)
	case err == nil && size > 0 && w.Status != wire.StatusWelcome:
		return w, 0, fmt.Errorf("%w: the reader refuses the session: %v", errdefs.ErrConnectionClosed, w.Status)
	}
	b.r += size
	return w, size, err
}

// noWelcomeErr is the error of a connection that ended without a welcome. A reader that is killed at
// that moment looks the same as one that does not know what it was told.
func (b *backChannel) noWelcomeErr(err error) error {
	switch {
	case bytes.HasPrefix(b.buf[b.r:b.w], wire.Goodbye):
		return fmt.Errorf("before the welcome: %w", endError(wire.CloseOrderly))
	case isConnectionEnd(err):
		return fmt.Errorf("%w: no welcome: the reader does not support acknowledgements, or was killed: %w", errdefs.ErrAcksUnsupported, err)
	}
	return err
}

// isConnectionEnd reports whether err says that the peer has ended the connection.
func isConnectionEnd(err error) bool {
	for _, end := range []error{io.EOF, io.ErrClosedPipe, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

func (o *Out) heartbeatTimeoutErr() error {
	return fmt.Errorf("%w: nothing came for %v (WithHeartbeatTimeout)", errdefs.ErrHeartbeatTimeout, o.back.heartbeatTimeout)
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

// handleAcks deals with all that has come. Of several acknowledgements the last one counts.
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

// interruptWrite interrupts a write that hangs.
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
	if err := o.setDeadline(time.Now()); err != nil {
		return err
	}
	_, err := o.conn.Write(wire.Heartbeat)
	if err != nil && !o.writeStopped.Load() {
		_ = o.conn.Close() // Half a heartbeat may be on its way.
	}
	return err
}
