// SPDX-License-Identifier: Apache-2.0

package transport

// This file closes a receiving connection gracefully: the peer may finish, its messages are
// handled, and a report says what was read.

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

const (
	CloseGrace = time.Second // Time that a peer may send nothing after the goodbye.
	// The same, if bytes have arrived since: TCP may wait for a window.
	sendingGrace  = 5 * CloseGrace
	maxCloseGrace = 10 * CloseGrace // Total time of all waits after the goodbye.
	// Bytes that may arrive after the goodbye, beside one message: about what two kernels hold.
	maxGraceBytes       = 16 << 20
	goodbyeWriteTimeout = 100 * time.Millisecond // Timeout of writing the goodbye.
	goodbyeAttempts     = 20                     // Writes in that time.
	goodbyeTLSTimeout   = time.Second            // The same for TLS, which has one attempt.
)

// The bytes that a Writer has written before it receives the goodbye are within maxGraceBytes. No
// constant of type uint64 is negative.
const _ = uint64(maxGraceBytes - 2*BatchSize)

// A gracePeriod is the time in which a peer must half-close after the goodbye. Only the time of
// waiting for the peer counts, not that of the handler.
type gracePeriod struct {
	waitStart      time.Time     // Start of the present wait; zero outside of one.
	waited         time.Duration // Sum of the waits before it.
	bytesAtGoodbye uint64        // Bytes received until the goodbye.
	expired        bool
}

// deadline returns the deadline of a wait that begins now; received is the number of bytes so far.
func (g *gracePeriod) deadline(now time.Time, received uint64) time.Time {
	g.waitStart = now
	wait := CloseGrace
	if received > g.bytesAtGoodbye {
		wait = sendingGrace
	}
	return now.Add(min(wait, maxCloseGrace-g.waited))
}

// waitEnded accounts for a wait. A wait that timed out was the last one.
func (g *gracePeriod) waitEnded(timedOut bool) {
	if g.waitStart.IsZero() {
		return
	}
	g.waited += time.Since(g.waitStart)
	g.waitStart = time.Time{}
	g.expired = g.expired || timedOut || g.waited >= maxCloseGrace
}

// An inEnd is the state of closing a connection. It is owned by the reading goroutine, except the
// atomics and the fields that deadlineMu guards.
type inEnd struct {
	halted     atomic.Bool   // At once: buffered messages are not handled.
	closing    atomic.Bool   // Gracefully: messages that the peer has sent are handled.
	cancelled  chan struct{} // Closed when the connection has ended, or ends at once.
	cancelOnce sync.Once

	goodbyeSent bool        // The goodbye was sent.
	reportSent  bool        // The report was sent, or need not be.
	sawEOF      bool        // The peer has half-closed, and everything was read.
	grace       gracePeriod // The grace period after the goodbye.

	tlsPending bool             // The TLS handshake is not done. Guarded by mu,
	readClosed bool             // so is: the kernel refuses the peer's writes; end of file will come.
	reason     wire.CloseReason // And so is the reason of the close.
}

// CancelWait wakes the reading goroutine if it waits for memory.
func (in *In) CancelWait() { in.end.cancelOnce.Do(func() { close(in.end.cancelled) }) }

// Halt ends the connection as soon as the handler that runs has returned. Any goroutine may call it.
func (in *In) Halt() {
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	in.end.halted.Store(true)
	in.CancelWait()
	_ = in.setReadDeadlineLocked(PastDeadline)
}

// isEnding reports whether the end of the connection, or of its use by this process, was requested.
func (in *In) isEnding() bool {
	return in.end.closing.Load() || in.end.halted.Load() || in.handOver.requested.Load()
}

// RequestClose starts a graceful close. The kernel refuses the peer's writes, or the peer is asked
// to stop; messages that it has sent are handled. The first reason counts. Any goroutine may call
// it.
func (in *In) RequestClose(reason wire.CloseReason) {
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	if in.end.closing.Load() {
		return
	}
	in.end.reason = reason
	in.end.closing.Store(true) // First: the reading goroutine may see the end of the stream at once.
	if in.end.tlsPending {
		// The peer may have finished the handshake and be sending: it receives the goodbye after
		// that.
		_ = in.setReadDeadlineLocked(time.Now().Add(CloseGrace))
		return
	}
	in.end.readClosed = CloseRead(in.conn)
	if !in.end.readClosed {
		_ = in.setReadDeadlineLocked(PastDeadline) // Wakes the reading goroutine, which sends the goodbye.
	}
}

// Reject closes the connection at once, and reports the reason to the peer. What the peer has sent
// is not read.
func (in *In) Reject(reason wire.CloseReason) {
	in.deadlineMu.Lock()
	if !in.end.closing.Swap(true) {
		in.end.reason = reason
	}
	in.deadlineMu.Unlock()
	in.SendReport()
}

// gracePeriodOver sends the goodbye if it is needed, and reports whether the grace period is over.
func (in *In) gracePeriodOver() bool {
	in.deadlineMu.Lock()
	shut := in.end.readClosed
	in.deadlineMu.Unlock()
	if shut {
		return false
	}
	received := in.counts.receivedBytes.Load()
	if !in.end.goodbyeSent {
		in.end.grace.bytesAtGoodbye = received
		in.SendGoodbye()
	}
	return in.end.grace.expired || received-in.end.grace.bytesAtGoodbye > maxGraceBytes+in.limit
}

// SendGoodbye asks the peer to half-close. Later calls have no effect.
func (in *In) SendGoodbye() {
	if in.end.goodbyeSent {
		return
	}
	in.end.goodbyeSent = true
	in.SendAck()
	in.writeGoodbye(wire.Goodbye)
}

// SendReport sends the report, after the goodbye if that was not sent. Later calls have no effect.
// A session needs no report: the next welcome has the numbers.
func (in *In) SendReport() {
	if in.session != nil {
		in.SendGoodbye()
		return
	}
	if in.end.reportSent {
		return
	}
	in.end.reportSent = true
	var words []byte
	if !in.end.goodbyeSent {
		in.end.goodbyeSent = true
		words = wire.Goodbye
	}
	in.deadlineMu.Lock()
	report := wire.CloseReport{Reason: in.end.reason, Skipped: in.oversize.skippedMessages, Limit: in.limit}
	in.deadlineMu.Unlock()
	if in.inherited { // What an earlier process has read of it is not known, but what is here and stays unhandled.
		report.Skipped += in.WholeMessages()
	} else {
		report.FirstUnread = in.counts.received.Load() + in.oversize.skippedMessages + 1
	}
	in.writeGoodbye(report.Append(words[:len(words):len(words)]))
}

// ReplyToEnd reports to a plain writer that has half-closed what was read. The writer may wait for
// it where the kernel does not report that.
func (in *In) ReplyToEnd() {
	if in.session == nil {
		in.SendReport()
	}
}

// writeGoodbye writes to a plain writer. Errors are ignored.
func (in *In) writeGoodbye(words []byte) {
	conn := in.conn
	in.deadlineMu.Lock()
	if in.end.reason == wire.CloseNotTLS {
		conn = underlyingConn(conn)
	}
	in.deadlineMu.Unlock()
	writeBrief(conn, words)
}

// writeBrief writes words, which a connection takes at once unless its buffer is full. A deadline that
// passed before the write could begin, because this process did not run, is no reason to give up:
// without a report, the end of a TCP connection looks to its writer as if everything had been read.
func writeBrief(conn net.Conn, words []byte) {
	if _, ok := conn.(*tls.Conn); ok { // It is corrupt after a timeout.
		_ = conn.SetWriteDeadline(time.Now().Add(goodbyeTLSTimeout))
		_, _ = conn.Write(words)
		return
	}
	const attempts = goodbyeAttempts
	for range attempts {
		_ = conn.SetWriteDeadline(time.Now().Add(goodbyeWriteTimeout / attempts))
		n, err := conn.Write(words)
		if words = words[n:]; !IsTimeout(err) {
			return
		}
	}
}

// Close closes the connection. With TLS, close_notify is sent only if the peer's bytes were read to
// the end: a peer must not mistake a cut connection for a complete one.
func (in *In) Close() {
	if in.end.sawEOF {
		_ = in.conn.Close()
	} else {
		CloseNow(in.conn)
	}
}
