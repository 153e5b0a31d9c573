// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a Reader, or a Conn, asks of a receiving connection and tells it.

import (
	"net"
	"syscall"
	"time"
)

// connection returns the connection that it reads from, with TLS if that speaks it.
func (in *inbound) connection() net.Conn { return in.conn }

// identifiedAs sets the user to whom the read memory of the connection counts.
func (in *inbound) identifiedAs(identity string) { in.loan.user = identity }

// keepOpenIf sets who is asked before the connection ends for inactivity, and has errors about messages over the limit
// show how those begin. It must be called before the first fill.
func (in *inbound) keepOpenIf(busy func() bool) {
	in.heads = true
	in.busy = busy
}

// isClosing reports whether requestClose or reject was called. Any goroutine may ask.
func (in *inbound) isClosing() bool { return in.closing.Load() }

// isHalted reports whether halt was called. Any goroutine may ask.
func (in *inbound) isHalted() bool { return in.halted.Load() }

// isAcknowledged reports whether a session has begun, so that a message that is not handled is sent again. Any
// goroutine may ask.
func (in *inbound) isAcknowledged() bool { return in.replays.Load() }

// skipping returns how many bytes of a message over the limit are still to come.
func (in *inbound) skipping() uint64 { return in.skip }

// received returns how many messages were handed over. Any goroutine may ask.
func (in *inbound) received() uint64 { return in.counts.received.Load() }

// counted returns the counters. Any goroutine may ask.
func (in *inbound) counted() *connCounts { return &in.counts }

// unreadBytes returns how many bytes lie in the socket, where the kernel can tell. Any goroutine may ask.
func (in *inbound) unreadBytes() int {
	if in.raw == nil {
		return 0
	}
	return waitingBytes(in.raw)
}

// closeNow closes the connection without a goodbye. Any goroutine may call it.
func (in *inbound) closeNow() { closeNow(in.conn) }

// handOverError returns why the next process does not get the connection; nil if nothing is in the way.
func (in *inbound) handOverError() error {
	if why := in.unfit.Load(); why != nil {
		return *why
	}
	return nil
}

// refuseHandOver ends the connection gracefully instead of handing it over.
func (in *inbound) refuseHandOver(why error) {
	if why != nil {
		in.unfit.Store(&why)
	}
	in.requestClose(endOrderly)
}

// handOverSocket returns the socket of a connection that is at rest for a hand-over.
func (in *inbound) handOverSocket() syscall.Conn { return in.conn.(syscall.Conn) }

// hello returns the hello at the beginning of a session, once it is there whole. An error that is not errVersion
// means that the bytes are no hello.
func (in *inbound) hello() (h hello, whole bool, err error) {
	h, size, err := parseHello(in.buffered())
	if err != nil || size > 0 {
		in.r += size
		return h, true, err
	}
	in.need = in.midway() + 1
	return h, false, nil
}

// heartbeatTimeout returns the longest silence that is asked of the writer; 0 where the kernel tells of its end.
func (in *inbound) heartbeatTimeout(configured time.Duration) time.Duration {
	if in.kind == unixSocket {
		return 0
	}
	return configured
}

// rejectSession answers a hello with the reason why there will be no session.
func (in *inbound) rejectSession(status welcomeStatus) {
	in.sendBrief(appendWelcome(nil, welcome{status: status}))
}

// sendHeartbeat tells a writer that waits for the welcome that this side lives.
func (in *inbound) sendHeartbeat() { in.sendBrief(heartbeat) }

// sendBrief writes what a peer either takes at once or need not know: the end of the connection tells it.
func (in *inbound) sendBrief(b []byte) {
	_ = in.conn.SetWriteDeadline(time.Now().Add(goodbyeWait))
	_, _ = in.conn.Write(b)
}

// beginSession begins to acknowledge: handled is the last message that was handled before, up to mayRepeat an earlier
// reader may have handled others. The writer wants a heartbeat after each beat, and sends one in silence, 0 for never.
func (in *inbound) beginSession(handled, mayRepeat uint64, beat, silence time.Duration) *inSession {
	in.silence = silence
	in.replays.Store(true)
	in.session = newInSession(in, handled, mayRepeat, beat)
	return in.session
}

// sendWelcome tells the writer that the session goes on. If that fails, reading tells what became of the connection.
func (s *inSession) sendWelcome() {
	_ = s.send(appendWelcome(nil, welcome{handled: s.base, limit: s.in.limit, silence: s.in.silence}))
}

// agreed returns what the two ends have told each other in the greeting.
func (s *inSession) agreed() (limit uint64, silence, beat time.Duration) {
	return s.in.limit, s.in.silence, s.beat
}

// seq returns the sequence number of the last message that was handed over.
func (s *inSession) seq() uint64 { return s.base + s.in.counts.received.Load() }

// markFailed notes that the last message is not handled, markHandled that it is.
func (s *inSession) markFailed()  { s.undone = 1 }
func (s *inSession) markHandled() { s.undone = 0 }

// mayRepeat reports whether an earlier reader may have handled this message or a later one.
func (s *inSession) mayRepeat() bool { return s.repeat != 0 }

// repeated reports whether an earlier reader may have handled the last message.
func (s *inSession) repeated() bool {
	if s.seq() <= s.repeat {
		return true
	}
	s.repeat = 0
	return false
}
