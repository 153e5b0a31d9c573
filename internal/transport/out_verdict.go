// SPDX-License-Identifier: Apache-2.0

package transport

// This file is the end of a connection as the Writer sees it: what the peer said last, how many
// messages it may not have read.

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

const (
	tcpVerdictWait     = 200 * time.Millisecond // How long a closed TCP peer may take to refuse the rest.
	goodbyeReadTimeout = 200 * time.Millisecond // How long the last words are waited for after a failed write.
)

// The goodbye comes sooner than the wait for it ends, and the last words fit their buffer. No
// constant of type uint64 is negative.
const (
	_ = uint64(goodbyeReadTimeout - goodbyeWriteTimeout)
	_ = uint64(len(goodbyeReader{}.buf) - 1 - wire.MaxPrefixSize - wire.MaxHandshakeBody)
)

// A goodbyeReader parses what a peer sends without a session: the goodbye and the report, or nothing.
type goodbyeReader struct {
	buf         [1 + wire.MaxPrefixSize + wire.MaxHandshakeBody]byte
	n           int  // buf[:n] has come.
	notProtocol bool // Something else has come: the peer does not speak this protocol.
	complete    bool // report is there.
	report      wire.CloseReport
}

// free is where the next bytes go. What follows the report, or is foreign, is dropped.
func (l *goodbyeReader) free() []byte {
	if l.notProtocol || l.complete || l.n == len(l.buf) {
		l.n = 1
	}
	return l.buf[l.n:]
}

// add takes note of n bytes more, and reports whether the goodbye begins with them.
func (l *goodbyeReader) add(n int) (goodbye bool) {
	first := l.n == 0 && n > 0
	l.n += n
	if l.n == 0 || l.notProtocol || l.complete {
		return false
	}
	if l.buf[0] != 0 {
		l.notProtocol = true
		return false
	}
	report, size, err := wire.ParseCloseReport(l.buf[1:l.n])
	l.notProtocol = err != nil
	if err == nil && size > 0 {
		l.report, l.complete = report, true
	}
	return first
}

// An Outcome is what is known of a connection that has ended.
type Outcome struct {
	Lost        uint64 // Messages that the peer may not have read, or has not handled: at most so many.
	Unread      uint64 // The same, if the peer was not waited for to the end: it may read them yet.
	Cause       error
	Reason      wire.CloseReason // What the peer gave for it.
	Reported    bool             // The peer has sent a report.
	ReaderLimit uint64           // The largest message that the peer accepts, if it said so; else 0.
}

// CloseAndAccount ends the connection after a write failed with writeErr, or after the peer left (nil). It
// waits for the peer, which may be handling its messages: to reconnect earlier would let the new
// connection overtake the old one. abort ends the wait.
func (o *Out) CloseAndAccount(writeErr error, abort <-chan struct{}) Outcome {
	defer o.conn.Close()
	switch {
	case o.end.goodbyeReceived.Load():
		o.halfClose()
	case errors.Is(writeErr, ErrRestartSequence), errors.Is(writeErr, errdefs.ErrInvalidSession):
		_ = o.conn.Close() // So that ReadLoop ends.
	case o.raw == nil && writeErr != nil && !errors.Is(writeErr, ErrGracefulEnd) && !isConnectionEnd(writeErr):
		_ = o.conn.SetReadDeadline(time.Now().Add(goodbyeReadTimeout)) // The peer may not know of it, and never end.
	}
	select {
	case <-o.end.done:
	case <-abort:
		return o.unconfirmed(o.allArrived())
	}
	cause := o.end.cause
	if writeErr != nil && !IsTimeout(writeErr) && !errors.Is(writeErr, ErrGracefulEnd) && !errors.Is(writeErr, syscall.EPIPE) {
		cause = writeErr
	}
	end := o.outcomeOf(cause)
	o.read.confirmed = o.messages - end.Lost
	return end
}

// CloseGracefully ends this side, once everything is written, and waits for the peer's end: a peer that has
// rejected this side, or a message, says so there. One that the kernel says has read everything is
// waited for a moment only, because a handler may hold it up, and so is one that cannot be asked
// for its end. abort ends the wait.
func (o *Out) CloseGracefully(abort <-chan struct{}) Outcome {
	select {
	case <-abort:
		return o.unconfirmed(o.allArrived())
	default:
	}
	arrived := o.allArrived() // Before this side ends: TCP counts the end as one more byte that its peer has to acknowledge.
	var late <-chan time.Time
	if asked := o.halfClose(); !asked || o.CanConfirmRead() {
		timer := time.NewTimer(goodbyeReadTimeout)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-o.end.done:
		return o.outcomeOf(o.end.cause)
	case <-late:
		return Outcome{}
	case <-abort:
		return o.unconfirmed(arrived || o.allArrived())
	}
}

// unconfirmed is the end of a connection whose peer was not waited for. Its sockets live on: what has
// not arrived can still be read.
func (o *Out) unconfirmed(arrived bool) Outcome {
	end := Outcome{Cause: ErrGracefulEnd}
	if o.back == nil && !arrived && o.end.bytesAtForcedStop.Load() != o.bytes.Load() {
		end.Unread = o.messages - o.read.confirmed
	}
	return end
}

// halfClose closes the sending side, and says whether the peer can see that. TLS has no time to
// announce it to a peer that leaves no room for that (crypto/tls, Conn.CloseWrite): then what lies
// beneath ends.
func (o *Out) halfClose() bool {
	err := closeWrite(o.conn)
	if err != nil && o.isTLS() {
		err = closeWrite(underlyingConn(o.conn))
	}
	return err == nil || o.raw != nil
}

// CanConfirmRead says whether the kernel tells what the peer has read.
func (o *Out) CanConfirmRead() bool { return o.kind == unixSocket && canTellUnread }

// outcomeOf says what an end for this cause means.
func (o *Out) outcomeOf(cause error) Outcome {
	end := Outcome{Cause: cause, Reported: o.end.goodbye.complete}
	report := o.end.goodbye.report // Zero if there was none.
	if o.end.goodbye.complete {
		end.Reason, end.ReaderLimit = report.Reason, report.Limit
	}
	if end.Reason != wire.CloseOrderly {
		end.Cause = endError(end.Reason)
	}
	switch {
	case o.back != nil: // In a session nothing is lost: the rest is sent again.
	case o.end.goodbye.complete && report.FirstUnread > 0:
		end.Lost = report.Lost(o.messages)
	case o.end.goodbye.notProtocol:
		end.Lost = o.messages
		end.Cause = fmt.Errorf("%w by a peer that does not speak this protocol: it sent % x", errdefs.ErrConnectionClosed, o.end.goodbye.buf[:1])
	case !o.endedCleanly(cause):
		end.Lost = o.messages - o.read.confirmed + min(report.Skipped, o.read.confirmed)
	default:
		end.Lost = min(report.Skipped, o.messages)
	}
	return end
}

// endedCleanly says whether the peer had read everything when the connection ended for this cause. An error
// is told once: a write that is cut short by it returns its count instead, and leaves nothing behind
// but EPIPE for the next write and end of file for the next read (sock_alloc_send_pskb).
func (o *Out) endedCleanly(cause error) bool {
	if !errors.Is(cause, io.EOF) {
		return false
	}
	switch o.kind {
	case unixSocket:
		return endOfFileMeansRead && (o.end.goodbyeReceived.Load() || !o.end.cutShort) || o.confirmAllRead()
	case tcpSocket:
		return o.waitTCPAcked()
	}
	return false // TLS and what a user brings along say nothing: only a report tells.
}

// waitTCPAcked waits until a TCP peer that has closed its side has taken or refused the rest.
func (o *Out) waitTCPAcked() bool {
	for deadline := time.Now().Add(tcpVerdictWait); ; time.Sleep(time.Millisecond) {
		bytes, ok := unread(o.raw)
		if !ok || pendingError(o.raw) != nil || time.Now().After(deadline) {
			return false
		}
		if bytes == 0 {
			return true
		}
	}
}

// endError is what a sender reports of the reason that its peer has given for the end.
func endError(reason wire.CloseReason) error {
	switch reason {
	case wire.CloseFull:
		return fmt.Errorf("%w: the reader has no room for one more (its WithMaxConnections or WithMaxConnectionsPerUser)", errdefs.ErrTooManyConnections)
	case wire.CloseUnauthorized:
		return fmt.Errorf("%w: the reader's authorizer rejects this process", errdefs.ErrUnauthorized)
	case wire.CloseTooLarge:
		return fmt.Errorf("%w for the reader (its WithMaxMessageSize)", errdefs.ErrMessageTooLarge)
	case wire.CloseMalformed:
		return fmt.Errorf("%w, says the reader", errdefs.ErrInvalidLengthPrefix)
	case wire.CloseTooSlow:
		return fmt.Errorf("%w: a message did not reach the reader in time", errdefs.ErrTooSlow)
	case wire.CloseNotTLS:
		return fmt.Errorf("%w: the reader speaks TLS, this side does not (WithTLS)", errdefs.ErrHandshake)
	case wire.CloseOrderly:
		return fmt.Errorf("%w by the reader", errdefs.ErrConnectionClosed)
	}
	return fmt.Errorf("%w by the reader for reason %d", errdefs.ErrConnectionClosed, uint64(reason))
}
