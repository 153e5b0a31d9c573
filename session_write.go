// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the writer's end of a session: the greeting, after which messages may flow, and the
// acknowledgements that come back.

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"syscall"
	"time"
)

// interruptAfter is how long a write may hang before an acknowledgement of its own messages interrupts it,
// so that they leave the queue.
const interruptAfter = 10 * time.Millisecond

const _ = uint64(minHeartbeatTimeout/heartbeatsPerTimeout - interruptAfter) // An interrupted write costs no heartbeat, or does not compile.

// A backChannel is what comes from the reader of a session. greet reads it first, then watch.
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
const backBufferSize = 1 + maxPrefixSize + maxHandshakeBody

const _ = uint64(backBufferSize - maxPrefixSize - maxHandshakeBody) // No constant of type uint64 is negative.

// readMore reads more, until the read deadline of the connection at most.
func (o *outbound) readMore() error {
	b := o.back
	b.w = copy(b.buf[:], b.buf[b.r:b.w])
	b.r = 0
	if b.w == len(b.buf) {
		return fmt.Errorf("%w: %d bytes that mean nothing", errHandshakeFormat, b.w)
	}
	n, err := o.conn.Read(b.buf[b.w:])
	if b.w += n; n > 0 {
		return nil // An error will come again.
	}
	return err
}

// A handshakeHooks is what a greeting needs to know, and is told how it goes.
type handshakeHooks struct {
	// heartbeatTimeout is the longest that the reader may say nothing, where the kernel does not tell of its end; 0 for any.
	heartbeatTimeout time.Duration

	// acknowledge is called by watch. early means that the message may still be in a write.
	acknowledge func(handled uint64) (early bool, err error)

	slowAfter time.Duration // After so long, waiting is called.
	onSlow    func()
	cancelled func() bool // Asked whenever the wait was interrupted.
}

// sessionHandshake says hello and waits for the welcome. No message may be written before that.
func (o *outbound) sessionHandshake(h hello, g handshakeHooks) (welcome, error) {
	o.back = &backChannel{acknowledge: g.acknowledge}
	if o.kind != unixSocket {
		h.heartbeatTimeout, o.back.heartbeatTimeout = g.heartbeatTimeout, g.heartbeatTimeout
	}
	if err := o.conn.SetWriteDeadline(time.Now().Add(o.timeout)); err != nil {
		return welcome{}, err
	}
	_, unsent := o.conn.Write(appendHello(nil, h))
	if unsent != nil && !isConnectionEnd(unsent) {
		return welcome{}, unsent
	}
	patience := time.Now().Add(g.slowAfter)
	heard := time.Now()
	for {
		w, size, err := o.back.welcome()
		if err != nil || size > 0 {
			o.back.heartbeatInterval = w.heartbeatTimeout / heartbeatsPerTimeout
			return w, err
		}
		// The deadline comes before the question: whoever ends the wait changes the answer first,
		// then the deadline.
		if err := o.conn.SetReadDeadline(o.handshakeDeadline(patience, heard)); err != nil {
			return w, err
		}
		if g.cancelled() {
			return w, errStopped
		}
		err = o.readMore()
		now := time.Now()
		switch {
		case err == nil:
			heard = now
		case !isTimeout(err):
			return w, o.back.noWelcomeErr(err)
		case unsent != nil:
			return w, o.back.noWelcomeErr(unsent) // The peer, which reads no more, has not said why.
		case o.back.heartbeatTimeout > 0 && now.Sub(heard) >= o.back.heartbeatTimeout:
			return w, o.heartbeatTimeoutErr()
		case !patience.IsZero() && !now.Before(patience):
			patience = time.Time{}
			g.onSlow()
		}
	}
}

// handshakeDeadline is when the wait for the welcome is interrupted: to say that it takes long, or
// because the reader says nothing at all.
func (o *outbound) handshakeDeadline(patience, heard time.Time) time.Time {
	if o.back.heartbeatTimeout == 0 {
		return patience
	}
	if silence := heard.Add(o.back.heartbeatTimeout); patience.IsZero() || silence.Before(patience) {
		return silence
	}
	return patience
}

// welcome parses what has come so far. The reader may have sent heartbeats before the welcome, or
// end the connection instead.
func (b *backChannel) welcome() (w welcome, size int, err error) {
	for bytes.HasPrefix(b.buf[b.r:b.w], heartbeat) {
		b.r += len(heartbeat)
	}
	rest := b.buf[b.r:b.w]
	if bytes.HasPrefix(rest, goodbye) {
		report, size, err := parseReport(rest[len(goodbye):])
		if err == nil && size > 0 {
			err = fmt.Errorf("before the welcome: %w", endError(report.reason))
		}
		return w, 0, err
	}
	w, size, err = parseWelcome(rest)
	switch {
	case errors.Is(err, errVersion):
		return w, 0, fmt.Errorf("%w: %w", errAcksUnsupported, err)
	case err == nil && size > 0 && w.status != statusWelcome:
		return w, 0, fmt.Errorf("%w: the reader refuses the session: %v", errConnectionClosed, w.status)
	}
	b.r += size
	return w, size, err
}

// noWelcomeErr is the error of a connection that ended without a welcome. A reader that is killed at
// that moment looks the same as one that does not know what it was told.
func (b *backChannel) noWelcomeErr(err error) error {
	switch {
	case bytes.HasPrefix(b.buf[b.r:b.w], goodbye):
		return fmt.Errorf("before the welcome: %w", endError(closeOrderly))
	case isConnectionEnd(err):
		return fmt.Errorf("%w: no welcome: the reader does not support acknowledgements, or was killed: %w", errAcksUnsupported, err)
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

func (o *outbound) heartbeatTimeoutErr() error {
	return fmt.Errorf("%w: nothing came for %v (WithHeartbeatTimeout)", errHeartbeatTimeout, o.back.heartbeatTimeout)
}

// readAcks is watch in a session: it hands acknowledgements to the queue. It returns why it ended.
func (o *outbound) readAcks(wake func()) error {
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
		if err := o.readMore(); isTimeout(err) {
			return o.heartbeatTimeoutErr()
		} else if err != nil {
			return err
		}
	}
}

// handleAcks deals with all that has come. Of several acknowledgements the last one counts.
func (o *outbound) handleAcks(wake func()) error {
	b := o.back
	var last uint64
	for {
		handled, alive, size, err := parseAck(b.buf[b.r:b.w])
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
			return fmt.Errorf("%w: message %d after message %d", errAcknowledgement, handled, last)
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
func (o *outbound) interruptWrite() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.resumable() && time.Since(o.deadlineSetAt) >= interruptAfter {
		o.interrupted.Store(true)
		_ = o.conn.SetWriteDeadline(aLongTimeAgo)
	}
}

// sendHeartbeat writes a heartbeat. The caller is at a frame boundary.
func (o *outbound) sendHeartbeat() error {
	if err := o.setDeadline(time.Now()); err != nil {
		return err
	}
	_, err := o.conn.Write(heartbeat)
	if err != nil && !o.writeStopped.Load() {
		_ = o.conn.Close() // Half a heartbeat may be on its way.
	}
	return err
}
