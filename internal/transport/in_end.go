// SPDX-License-Identifier: Apache-2.0

package transport

// This file is how a Reader ends a connection: it lets the peer finish, handles what came, and
// reports what it has read.

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

const (
	CloseGrace          = time.Second            // How long a peer may send nothing after the goodbye.
	sendingGrace        = 5 * CloseGrace         // The same, if something has come since: TCP may wait for a window.
	maxCloseGrace       = 10 * CloseGrace        // How long it is waited for after the goodbye, all waits together.
	maxGraceBytes       = 16 << 20               // How much may come after the goodbye, one message more: about what two kernels hold.
	goodbyeWriteTimeout = 100 * time.Millisecond // How long the goodbye itself may take.
)

// The bytes that a Writer has written before it receives the goodbye are within maxGraceBytes. No
// constant of type uint64 is negative.
const _ = uint64(maxGraceBytes - 2*BatchSize)

// A gracePeriod is the time that a peer has to end its side after the goodbye. Only time that is spent
// waiting for the peer counts: what came is handled, however long the handler takes.
type gracePeriod struct {
	waitStart      time.Time     // Of the present wait; zero outside of one.
	waited         time.Duration // By the waits before it.
	bytesAtGoodbye uint64        // What had been received at the goodbye.
	expired        bool
}

// deadline returns the deadline of a wait that begins now, after so many bytes in all.
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

// An inEnd is how far a connection is on its way to its end. It belongs to the goroutine that
// reads, except for the atomics and the fields that deadlineMu guards.
type inEnd struct {
	halted     atomic.Bool   // At once: what is buffered is not handled either.
	closing    atomic.Bool   // Gracefully: no longer than it takes to handle what the peer has sent.
	cancelled  chan struct{} // Closed when it is at an end, or will be at once.
	cancelOnce sync.Once

	goodbyeSent bool        // The goodbye was said.
	reportSent  bool        // The report was sent, or need not be.
	sawEOF      bool        // The peer has ended its side, and everything was read.
	grace       gracePeriod // The time that is left after the goodbye.

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
	_ = in.conn.SetReadDeadline(PastDeadline)
}

// isEnding reports whether the end of the connection, or of its use by this process, was requested.
func (in *In) isEnding() bool {
	return in.end.closing.Load() || in.end.halted.Load() || in.handOver.requested.Load()
}

// RequestClose ends the connection gracefully: the peer is kept from writing more, or asked not to,
// and what it has written by then is handled. The first reason counts. Any goroutine may call it.
func (in *In) RequestClose(reason wire.CloseReason) {
	in.deadlineMu.Lock()
	defer in.deadlineMu.Unlock()
	if in.end.closing.Load() {
		return
	}
	in.end.reason = reason
	in.end.closing.Store(true) // First: the reading goroutine may see the end of the stream at once.
	if in.end.tlsPending {
		// Its writer may have finished, and be sending: it hears the goodbye after that.
		_ = in.conn.SetReadDeadline(time.Now().Add(CloseGrace))
		return
	}
	in.end.readClosed = CloseRead(in.conn)
	if !in.end.readClosed {
		_ = in.conn.SetReadDeadline(PastDeadline) // Wakes the reading goroutine, which sends the goodbye.
	}
}

// Reject ends the connection at once, and tells the peer why. What it has sent is not read.
func (in *In) Reject(reason wire.CloseReason) {
	in.deadlineMu.Lock()
	if !in.end.closing.Swap(true) {
		in.end.reason = reason
	}
	in.deadlineMu.Unlock()
	in.SendReport()
}

// gracePeriodOver says goodbye where that is needed, and reports whether the time for an answer is over.
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

// SendGoodbye asks the peer to end its side, once.
func (in *In) SendGoodbye() {
	if in.end.goodbyeSent {
		return
	}
	in.end.goodbyeSent = true
	in.SendAck()
	in.writeGoodbye(wire.Goodbye)
}

// SendReport is the last word, once: the goodbye, if that was not said, and the report. A session
// needs no report, because the next welcome tells.
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

// ReplyToEnd tells a plain writer that has ended its side what was read: it may wait for that, over
// a connection that tells nothing by itself.
func (in *In) ReplyToEnd() {
	if in.session == nil {
		in.SendReport()
	}
}

// writeGoodbye writes what a Reader says to a plain writer. A peer that cannot be told is treated like
// one that was.
func (in *In) writeGoodbye(words []byte) {
	if len(words) == 0 {
		return
	}
	conn := in.conn
	in.deadlineMu.Lock()
	if in.end.reason == wire.CloseNotTLS {
		conn = underlyingConn(conn)
	}
	in.deadlineMu.Unlock()
	_ = conn.SetWriteDeadline(time.Now().Add(goodbyeWriteTimeout))
	_, _ = conn.Write(words)
}

// Close closes the connection. TLS says its own last word only if the peer's bytes were read to the
// end: a peer must not take a connection that was cut for one that ended in order.
func (in *In) Close() {
	if in.end.sawEOF {
		_ = in.conn.Close()
	} else {
		CloseNow(in.conn)
	}
}
