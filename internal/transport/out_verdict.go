// SPDX-License-Identifier: Apache-2.0

package transport

// This file computes the outcome of a connection for the Writer: the peer's report, and how many
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
	tcpVerdictWait = 200 * time.Millisecond // Time for a closed TCP peer to refuse the rest.
	// Time to wait for the goodbye after a failed write.
	goodbyeReadTimeout = 200 * time.Millisecond
)

// The peer's timeout is shorter than the wait for its goodbye, and the goodbye and report fit in
// the buffer. The compiler rejects a negative uint64.
const (
	_ = uint64(goodbyeReadTimeout - goodbyeWriteTimeout)
	_ = uint64(len(goodbyeReader{}.buf) - 1 - wire.MaxPrefixSize - wire.MaxHandshakeBody)
)

// A goodbyeReader parses what a peer sends without a session: the goodbye and the report, or nothing.
type goodbyeReader struct {
	buf         [1 + wire.MaxPrefixSize + wire.MaxHandshakeBody]byte
	n           int  // buf[:n] has come.
	notProtocol bool // Other bytes were received: the peer uses another protocol.
	complete    bool // report is complete.
	report      wire.CloseReport
}

// free returns the space for the next bytes. Bytes after the report, or of another protocol, are
// dropped.
func (l *goodbyeReader) free() []byte {
	if l.notProtocol || l.complete || l.n == len(l.buf) {
		l.n = 1
	}
	return l.buf[l.n:]
}

// add records n bytes more. It reports whether the goodbye begins with them.
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

// An Outcome describes a connection that has ended.
type Outcome struct {
	Lost uint64 // Upper bound of the messages that the peer has not read, or not handled.
	// The same, if this side did not wait for the peer, which may still read them.
	Unread      uint64
	Cause       error
	Reason      wire.CloseReason // The peer's reason.
	Reported    bool             // The peer has sent a report.
	ReaderLimit uint64           // Largest message that the peer accepts, if it reported that; else 0.

	Silent   bool          // It ended without a goodbye of the peer. A session has the welcome.
	Messages uint64        // Messages written completely.
	Recent   uint64        // The last ones of them: a Reader that is killed may have read those, and not handled them.
	Lived    time.Duration // How long the connection lasted.
}

// CloseAndAccount closes the connection after a write failed with writeErr, or after the peer
// closed it (nil). It waits for the peer, which may be handling messages: an earlier reconnect
// would let the new connection overtake the old one. abort ends the wait.
func (o *Out) CloseAndAccount(writeErr error, abort <-chan struct{}) Outcome {
	defer o.conn.Close()
	switch {
	case o.end.goodbyeReceived.Load():
		o.halfClose()
	case errors.Is(writeErr, ErrRestartSequence), errors.Is(writeErr, errdefs.ErrInvalidSession):
		_ = o.conn.Close() // So that ReadLoop ends.
	case o.raw == nil && writeErr != nil && !errors.Is(writeErr, ErrGracefulEnd) && !isConnectionEnd(writeErr):
		// The peer may not know of the failure, and never close.
		_ = o.conn.SetReadDeadline(time.Now().Add(goodbyeReadTimeout))
	}
	select {
	case <-o.end.done:
	case <-abort:
		return o.unconfirmed(o.allArrived())
	}
	cause := o.end.cause
	if writeErr != nil && !IsTimeout(writeErr) && !errors.Is(writeErr, ErrGracefulEnd) &&
		!errors.Is(writeErr, syscall.EPIPE) {
		cause = writeErr
	}
	end := o.outcomeOf(cause)
	o.read.confirmed = o.messages - end.Lost
	return end
}

// CloseGracefully half-closes the connection after everything was written, and waits for the peer
// to close. A peer that has rejected this side, or a message, reports it there. The wait is short
// for a peer that has read everything, because its handler may be slow. It is also short for a peer
// that cannot see the half-close. abort ends the wait.
func (o *Out) CloseGracefully(abort <-chan struct{}) Outcome {
	select {
	case <-abort:
		return o.unconfirmed(o.allArrived())
	default:
	}
	// Before the half-close: TCP counts FIN as one more byte to acknowledge.
	arrived := o.allArrived()
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

// unconfirmed returns the outcome of a connection whose peer was not waited for. The kernel still
// delivers the rest.
func (o *Out) unconfirmed(arrived bool) Outcome {
	end := Outcome{Cause: ErrGracefulEnd}
	if o.back == nil && !arrived && o.end.bytesAtForcedStop.Load() != o.bytes.Load() {
		end.Unread = o.messages - o.read.confirmed
	}
	return end
}

// halfClose half-closes the connection, and reports whether the peer can see that. TLS cannot send
// close_notify to a peer that does not read (crypto/tls, Conn.CloseWrite): then the connection
// beneath is half-closed.
func (o *Out) halfClose() bool {
	err := closeWrite(o.conn)
	if err != nil && o.isTLS() {
		err = closeWrite(underlyingConn(o.conn))
	}
	return err == nil || o.raw != nil
}

// CanConfirmRead reports whether the kernel reports what the peer has read.
func (o *Out) CanConfirmRead() bool { return o.kind == unixSocket && canTellUnread }

// outcomeOf returns the outcome of an end with this cause. The error of a TryWrite comes before it:
// after that, reading may only return end of file.
func (o *Out) outcomeOf(cause error) Outcome {
	if failed := o.end.tryFailed; failed != nil && !errors.Is(failed, syscall.EPIPE) {
		cause = failed
	}
	end := Outcome{
		Cause: cause, Reported: o.end.goodbye.complete,
		Lived:    time.Since(o.startedAt),
		Messages: o.messages, Recent: o.messages - o.read.prevCheckpoint.messages,
		Silent: o.back == nil && (!o.end.goodbyeReceived.Load() || o.end.goodbye.notProtocol),
	}
	report := o.end.goodbye.report // Zero without a report.
	if o.end.goodbye.complete {
		end.Reason, end.ReaderLimit = report.Reason, report.Limit
	}
	if end.Reason != wire.CloseOrderly {
		end.Cause = endError(report)
	}
	switch {
	case o.back != nil: // In a session nothing is lost: the rest is retransmitted.
	case o.end.goodbye.complete && report.FirstUnread > 0:
		end.Lost = report.Lost(o.messages)
	case o.end.goodbye.notProtocol:
		end.Lost = o.messages
		end.Cause = fmt.Errorf("%w by a peer that does not speak this protocol: it sent % x",
			errdefs.ErrConnectionClosed, o.end.goodbye.buf[:1])
	case !o.endedCleanly(cause):
		end.Lost = o.messages - o.read.confirmed + min(report.Skipped, o.read.confirmed)
	default:
		end.Lost = min(report.Skipped, o.messages)
	}
	return end
}

// endedCleanly reports whether the peer had read everything at an end with this cause. The kernel
// reports an error once. A write that it cuts short returns its count instead; then the next write
// only returns EPIPE, and the next read end of file (sock_alloc_send_pskb).
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

// RefusalError returns the error for the report of a server that refuses what this side sends
// (wire.CloseNotReader). body is the message after the goodbye.
func RefusalError(body []byte) error {
	report, size, err := wire.ParseCloseReport(wire.AppendFrame(nil, body))
	if err != nil || size == 0 {
		report = wire.CloseReport{Reason: wire.CloseNotReader}
	}
	if report.Reason == wire.CloseNotReader {
		return fmt.Errorf("%w: the server does not understand what this side sends: is it one of the same package?",
			errdefs.ErrConnectionClosed)
	}
	return endError(report)
}

// endError returns the error for the peer's reason. It names the remedy.
func endError(report wire.CloseReport) error {
	switch report.Reason {
	case wire.CloseFull:
		return fmt.Errorf(
			"%w: the reader has no room for one more (its WithMaxConnections or WithMaxConnectionsPerUser)",
			errdefs.ErrTooManyConnections)
	case wire.CloseUnauthorized:
		return fmt.Errorf("%w: the reader's authorizer rejects this process (its WithAuthorizer)", errdefs.ErrUnauthorized)
	case wire.CloseTooLarge:
		return fmt.Errorf("%w for the reader: its limit is %d bytes (its WithMaxMessageSize)",
			errdefs.ErrMessageTooLarge, report.Limit)
	case wire.CloseMalformed:
		return fmt.Errorf("%w, says the reader", errdefs.ErrInvalidLengthPrefix)
	case wire.CloseTooSlow:
		return fmt.Errorf("%w: a message did not reach the reader in time (its WithMessageTimeout)", errdefs.ErrTooSlow)
	case wire.CloseNotTLS:
		return fmt.Errorf("%w: the reader speaks TLS, this side does not: use WithTLS", errdefs.ErrHandshake)
	case wire.CloseNotReader:
		return fmt.Errorf("%w: the peer is no Reader but a server of package duplex or rpc: use their clients",
			errdefs.ErrConnectionClosed)
	case wire.CloseOrderly:
		return fmt.Errorf("%w by the reader", errdefs.ErrConnectionClosed)
	}
	return fmt.Errorf("%w by the reader for reason %d", errdefs.ErrConnectionClosed, uint64(report.Reason))
}
