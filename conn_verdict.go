// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the end of a connection as the Writer sees it: what the peer said last, how many
// messages it may not have read.

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

const (
	tcpVerdictWait = 200 * time.Millisecond // How long a closed TCP peer may take to refuse the rest.
	lastWordsWait  = 200 * time.Millisecond // How long the last words are waited for after a failed write.
)

// The goodbye comes sooner than the wait for it ends, and the last words fit their buffer. No
// constant of type uint64 is negative.
const (
	_ = uint64(lastWordsWait - goodbyeWait)
	_ = uint64(len(lastWords{}.buf) - 1 - maxHeaderSize - maxGreeting)
)

// lastWords are what a peer sends without a session: the goodbye and the report, or nothing.
type lastWords struct {
	buf      [1 + maxHeaderSize + maxGreeting]byte
	n        int  // buf[:n] has come.
	foreign  bool // Something else has come: the peer does not speak this protocol.
	reported bool // report is there.
	report   endReport
}

// space is where the next bytes go. What follows the report, or is foreign, is dropped.
func (l *lastWords) space() []byte {
	if l.foreign || l.reported || l.n == len(l.buf) {
		l.n = 1
	}
	return l.buf[l.n:]
}

// add takes note of n bytes more, and reports whether the goodbye begins with them.
func (l *lastWords) add(n int) (goodbye bool) {
	first := l.n == 0 && n > 0
	l.n += n
	if l.n == 0 || l.foreign || l.reported {
		return false
	}
	if l.buf[0] != 0 {
		l.foreign = true
		return false
	}
	report, size, err := parseReport(l.buf[1:l.n])
	l.foreign = err != nil
	if err == nil && size > 0 {
		l.report, l.reported = report, true
	}
	return first
}

// An ending is what is known of a connection that has ended.
type ending struct {
	lost   uint64 // Messages that the peer may not have read, or has not handled: at most so many.
	unread uint64 // The same, if the peer was not waited for to the end: it may read them yet.
	cause  error
	reason endReason // What the peer gave for it.
	told   bool      // The peer has sent a report.
	limit  uint64    // The largest message that the peer accepts, if it said so; else 0.
}

// finish ends the connection after a write failed with writeErr, or after the peer left (nil). It
// waits for the peer, which may be handling what it has: to reconnect earlier would let the new
// connection overtake the old one. abort ends the wait.
func (o *outbound) finish(writeErr error, abort <-chan struct{}) ending {
	defer o.conn.Close()
	switch {
	case o.end.said.Load():
		o.endSide()
	case errors.Is(writeErr, errRenumber), errors.Is(writeErr, errInvalidSession):
		_ = o.conn.Close() // So that watch ends.
	case o.raw == nil && writeErr != nil && !errors.Is(writeErr, errEnded) && !endsConnection(writeErr):
		_ = o.conn.SetReadDeadline(time.Now().Add(lastWordsWait)) // The peer may not know of it, and never end.
	}
	select {
	case <-o.end.ended:
	case <-abort:
		return o.unheard(o.arrived())
	}
	cause := o.end.cause
	if writeErr != nil && !isTimeout(writeErr) && !errors.Is(writeErr, errEnded) && !errors.Is(writeErr, syscall.EPIPE) {
		cause = writeErr
	}
	end := o.verdict(cause)
	o.read.settled = o.messages - end.lost
	return end
}

// part ends this side, once everything is written, and waits for the peer's end: a peer that has
// rejected this side, or a message, says so there. One that the kernel says has read everything is
// waited for a moment only, because a handler may hold it up, and so is one that cannot be asked
// for its end. abort ends the wait.
func (o *outbound) part(abort <-chan struct{}) ending {
	select {
	case <-abort:
		return o.unheard(o.arrived())
	default:
	}
	arrived := o.arrived() // Before this side ends: TCP counts the end as one more byte that its peer has to acknowledge.
	var late <-chan time.Time
	if asked := o.endSide(); !asked || o.tellsRead() {
		timer := time.NewTimer(lastWordsWait)
		defer timer.Stop()
		late = timer.C
	}
	select {
	case <-o.end.ended:
		return o.verdict(o.end.cause)
	case <-late:
		return ending{}
	case <-abort:
		return o.unheard(arrived || o.arrived())
	}
}

// unheard is the end of a connection whose peer was not waited for. Its sockets live on: what has
// not arrived can still be read.
func (o *outbound) unheard(arrived bool) ending {
	end := ending{cause: errEnded}
	if o.back == nil && !arrived && o.end.forced.Load() != o.bytes.Load() {
		end.unread = o.messages - o.read.settled
	}
	return end
}

// endSide closes the sending side, and says whether the peer can see that. TLS has no time to
// announce it to a peer that leaves no room for that (crypto/tls, Conn.CloseWrite): then what lies
// beneath ends.
func (o *outbound) endSide() bool {
	err := closeWrite(o.conn)
	if err != nil && o.secure() {
		err = closeWrite(beneath(o.conn))
	}
	return err == nil || o.raw != nil
}

// tellsRead says whether the kernel tells what the peer has read.
func (o *outbound) tellsRead() bool { return o.kind == unixSocket && canTellUnread }

// verdict says what an end for this cause means.
func (o *outbound) verdict(cause error) ending {
	end := ending{cause: cause, told: o.end.last.reported}
	report := o.end.last.report // Zero if there was none.
	if o.end.last.reported {
		end.reason, end.limit = report.reason, report.limit
	}
	if end.reason != endOrderly {
		end.cause = endError(end.reason)
	}
	switch {
	case o.back != nil: // In a session nothing is lost: the rest is sent again.
	case o.end.last.reported && report.next > 0:
		end.lost = report.lost(o.messages)
	case o.end.last.foreign:
		end.lost = o.messages
		end.cause = fmt.Errorf("%w by a peer that does not speak this protocol: it sent % x", errConnectionClosed, o.end.last.buf[:1])
	case !o.clean(cause):
		end.lost = o.messages - o.read.settled + min(report.skipped, o.read.settled)
	default:
		end.lost = min(report.skipped, o.messages)
	}
	return end
}

// clean says whether the peer had read everything when the connection ended for this cause. An error
// is told once: a write that is cut short by it returns its count instead, and leaves nothing behind
// but EPIPE for the next write and end of file for the next read (sock_alloc_send_pskb).
func (o *outbound) clean(cause error) bool {
	if !errors.Is(cause, io.EOF) {
		return false
	}
	switch o.kind {
	case unixSocket:
		return endOfFileMeansRead && (o.end.said.Load() || !o.end.cut) || o.settle()
	case tcpSocket:
		return o.acknowledged()
	}
	return false // TLS and what a user brings along say nothing: only a report tells.
}

// acknowledged waits until a TCP peer that has closed its side has taken or refused the rest.
func (o *outbound) acknowledged() bool {
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
func endError(reason endReason) error {
	switch reason {
	case endFull:
		return fmt.Errorf("%w: the reader has no room for one more (its WithMaxConnections or WithMaxConnectionsPerUser)", errTooManyConnections)
	case endUnauthorized:
		return fmt.Errorf("%w: the reader's authorizer rejects this process", errUnauthorized)
	case endTooLarge:
		return fmt.Errorf("%w for the reader (its WithMaxMessageSize)", errMessageTooLarge)
	case endMalformed:
		return fmt.Errorf("%w, says the reader", errInvalidLengthPrefix)
	case endTooSlow:
		return fmt.Errorf("%w: a message did not reach the reader in time", errTooSlow)
	case endNotTLS:
		return fmt.Errorf("%w: the reader speaks TLS, this side does not (WithTLS)", errHandshake)
	case endOrderly:
		return fmt.Errorf("%w by the reader", errConnectionClosed)
	}
	return fmt.Errorf("%w by the reader for reason %d", errConnectionClosed, uint64(reason))
}
