// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how a Reader ends a connection: it lets the peer finish, handles what came, and
// reports what it has read.

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	closeGrace    = time.Second            // How long a peer may send nothing after the goodbye.
	sendingGrace  = 5 * closeGrace         // The same, if something has come since: TCP may wait for a window.
	maxCloseGrace = 10 * closeGrace        // How long it is waited for after the goodbye, all waits together.
	maxGraceBytes = 16 << 20               // How much may come after the goodbye, one message more: about what two kernels hold.
	goodbyeWait   = 100 * time.Millisecond // How long the goodbye itself may take.
)

// What a Writer has written before it hears the goodbye is within what a Reader puts up with. No
// constant of type uint64 is negative.
const _ = uint64(maxGraceBytes - 2*batchSize)

// A grace is the time that a peer has to end its side after the goodbye. Only time that is spent
// waiting for the peer counts: what came is handled, however long the handler takes.
type grace struct {
	began  time.Time     // Of the present wait; zero outside of one.
	waited time.Duration // By the waits before it.
	bytes  uint64        // What had been received at the goodbye.
	over   bool
}

// wait returns the deadline of a wait that begins now, after so many bytes in all.
func (g *grace) wait(now time.Time, received uint64) time.Time {
	g.began = now
	patience := closeGrace
	if received > g.bytes {
		patience = sendingGrace
	}
	return now.Add(min(patience, maxCloseGrace-g.waited))
}

// waitEnded accounts for a wait. A wait that timed out was the last one.
func (g *grace) waitEnded(timedOut bool) {
	if g.began.IsZero() {
		return
	}
	g.waited += time.Since(g.began)
	g.began = time.Time{}
	g.over = g.over || timedOut || g.waited >= maxCloseGrace
}

// An inEnd is how far a connection is on its way to its end. It belongs to the goroutine that
// reads, but for the atomics and what the connection's mu guards.
type inEnd struct {
	halted   atomic.Bool   // At once: what is buffered is not handled either.
	closing  atomic.Bool   // Gracefully: no longer than it takes to handle what the peer has sent.
	gone     chan struct{} // Closed when it is at an end, or will be at once.
	goneOnce sync.Once

	said     bool  // The goodbye was said.
	reported bool  // The report was sent, or need not be.
	sawEnd   bool  // The peer has ended its side, and everything was read.
	grace    grace // The time that is left after the goodbye.

	greeting bool      // The TLS handshake is not done. Guarded by mu,
	shut     bool      // so is: the kernel refuses the peer's writes; end of file will come.
	why      endReason // And so is why it is closing.
}

// leave wakes the reading goroutine if it waits for memory.
func (in *inbound) leave() { in.end.goneOnce.Do(func() { close(in.end.gone) }) }

// halt ends the connection as soon as the handler that runs has returned. Any goroutine may call it.
func (in *inbound) halt() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.end.halted.Store(true)
	in.leave()
	_ = in.conn.SetReadDeadline(aLongTimeAgo)
}

// isEnding reports whether the end of the connection, or of its use by this process, was requested.
func (in *inbound) isEnding() bool {
	return in.end.closing.Load() || in.end.halted.Load() || in.handOver.requested.Load()
}

// requestClose ends the connection gracefully: the peer is kept from writing more, or asked not to,
// and what it has written by then is handled. The first reason counts. Any goroutine may call it.
func (in *inbound) requestClose(why endReason) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.end.closing.Load() {
		return
	}
	in.end.why = why
	in.end.closing.Store(true) // First: the reading goroutine may see the end of the stream at once.
	if in.end.greeting {
		// Its writer may have finished, and be sending: it hears the goodbye after that.
		_ = in.conn.SetReadDeadline(time.Now().Add(closeGrace))
		return
	}
	in.end.shut = shutReceiving(in.conn)
	if !in.end.shut {
		_ = in.conn.SetReadDeadline(aLongTimeAgo) // Wakes the reading goroutine, which says goodbye.
	}
}

// reject ends the connection at once, and tells the peer why. What it has sent is not read.
func (in *inbound) reject(why endReason) {
	in.mu.Lock()
	if !in.end.closing.Swap(true) {
		in.end.why = why
	}
	in.mu.Unlock()
	in.farewell()
}

// over says goodbye where that is needed, and reports whether the time for an answer is over.
func (in *inbound) over() bool {
	in.mu.Lock()
	shut := in.end.shut
	in.mu.Unlock()
	if shut {
		return false
	}
	received := in.counts.receivedBytes.Load()
	if !in.end.said {
		in.end.grace.bytes = received
		in.sayGoodbye()
	}
	return in.end.grace.over || received-in.end.grace.bytes > maxGraceBytes+in.limit
}

// sayGoodbye asks the peer to end its side, once.
func (in *inbound) sayGoodbye() {
	if in.end.said {
		return
	}
	in.end.said = true
	in.tellHandled()
	in.sayLast(goodbye)
}

// farewell is the last word, once: the goodbye, if that was not said, and the report. A session
// needs no report, because the next welcome tells.
func (in *inbound) farewell() {
	if in.session != nil {
		in.sayGoodbye()
		return
	}
	if in.end.reported {
		return
	}
	in.end.reported = true
	var words []byte
	if !in.end.said {
		in.end.said = true
		words = goodbye
	}
	in.mu.Lock()
	report := endReport{reason: in.end.why, skipped: in.oversize.skipped, limit: in.limit}
	in.mu.Unlock()
	if in.resumed { // What an earlier process has read of it is not known, but what is here and stays unhandled.
		report.skipped += in.wholeMessages()
	} else {
		report.next = in.counts.received.Load() + in.oversize.skipped + 1
	}
	in.sayLast(appendReport(words[:len(words):len(words)], report))
}

// answerEnd tells a plain writer that has ended its side what was read: it may wait for that, over
// a connection that tells nothing by itself.
func (in *inbound) answerEnd() {
	if in.session == nil {
		in.farewell()
	}
}

// sayLast writes what a Reader says to a plain writer. A peer that cannot be told is treated like
// one that was.
func (in *inbound) sayLast(words []byte) {
	if len(words) == 0 {
		return
	}
	conn := in.conn
	in.mu.Lock()
	if in.end.why == endNotTLS {
		conn = beneath(conn)
	}
	in.mu.Unlock()
	_ = conn.SetWriteDeadline(time.Now().Add(goodbyeWait))
	_, _ = conn.Write(words)
}

// close closes the connection. TLS says its own last word only if the peer's bytes were read to the
// end: a peer must not take a connection that was cut for one that ended in order.
func (in *inbound) close() {
	if in.end.sawEnd {
		_ = in.conn.Close()
	} else {
		closeNow(in.conn)
	}
}
