// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is a sending connection, what it is made of, and what a sender asks of it.

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	minUsefulLife     = 10 * time.Millisecond // A connection that lived shorter proves little.
	resetBackoffAfter = time.Second           // One that lived so long proves enough.
)

// An outbound connection belongs to the goroutine that writes, but for what is marked otherwise.
// Exactly one other goroutine, watch, reads from it.
type outbound struct {
	conn       net.Conn
	kind       connKind
	raw        syscall.RawConn // nil for otherConn.
	underlying syscall.RawConn // Of the socket beneath TLS; nil without one.
	timeout    time.Duration   // Of one write.
	vector     net.Buffers     // What WriteTo consumes; a field, so that it is not allocated.
	startedAt  time.Time
	back       *backChannel // nil without a session.

	bytes    atomic.Int64 // That were written. Any goroutine may read it.
	messages uint64       // That were written to their last byte.
	read     readMarks
	stall    writeStall
	end      outEnd

	mu            sync.Mutex  // Guards the write deadline against leaving.
	deadlineSetAt time.Time   // When the write deadline was set.
	interrupted   atomic.Bool // It was then set to the past, to interrupt a write.
	writeStopped  atomic.Bool // Nothing more should be written: the peer is going away, or gone.
}

// An outEnd is what is known of the end of a connection.
type outEnd struct {
	cutShort          bool          // A write was refused after a part of it was taken.
	goodbyeReceived   atomic.Bool   // The peer said goodbye.
	goodbye           goodbyeReader // What the peer said, without a session. Written by watch alone.
	bytesAtForcedStop atomic.Int64  // How many bytes had been written, and had arrived, when the sender was told not to wait; else 0.
	done              chan struct{} // Closed by watch; cause and last are set before.
	cause             error
}

// newOutbound takes over conn.
func newOutbound(conn net.Conn, timeout time.Duration) *outbound {
	o := &outbound{conn: conn, timeout: timeout, startedAt: time.Now(), end: outEnd{done: make(chan struct{})}}
	o.kind, o.raw = kindOf(conn)
	if o.raw == nil {
		_, o.underlying = kindOf(underlyingConn(conn))
	}
	if o.kind == unixSocket {
		// The kernel lets a write in as long as the sum is below the limit, and prices each piece
		// above its bytes; one piece is at most half of the buffer (unix_stream_sendmsg).
		size := int64(sendBufferSize(o.raw))
		o.read.maxUnread = size + size/2
	}
	return o
}

// isTLS says whether the connection speaks TLS.
func (o *outbound) isTLS() bool { return isTLS(o.conn) }

// isWriteStopped reports whether nothing more should be written: the peer is going away, or gone. Any
// goroutine may ask.
func (o *outbound) isWriteStopped() bool { return o.writeStopped.Load() }

// isSession reports whether the peer acknowledges.
func (o *outbound) isSession() bool { return o.back != nil }

// heartbeatInterval is how often the reader of a session wants to hear something; 0 for never.
func (o *outbound) heartbeatInterval() time.Duration { return o.back.heartbeatInterval }

// written returns how many bytes the kernel has taken. Any goroutine may ask.
func (o *outbound) written() int64 { return o.bytes.Load() }

// wroteMessages reports whether a message was written to its last byte.
func (o *outbound) wroteMessages() bool { return o.messages > 0 }

// markProgress notes that a message is acknowledged, so that the connection was of use.
func (o *outbound) markProgress() { o.back.progress.Store(true) }

// forceClose ends the connection at once, and notes whether everything had arrived then. Any goroutine
// may call it.
func (o *outbound) forceClose() {
	if written := o.bytes.Load(); o.allArrived() {
		o.end.bytesAtForcedStop.Store(written)
	}
	o.stopWriting()
	closeNow(o.conn)
}

// closeNow closes the connection without an end of TLS. Any goroutine may call it.
func (o *outbound) closeNow() { closeNow(o.conn) }

// close closes the connection.
func (o *outbound) close() { _ = o.conn.Close() }

// waitReadLoop waits until watch has returned.
func (o *outbound) waitReadLoop() { <-o.end.done }

// interruptHandshake has greet ask whether to give up. Any goroutine may call it.
func (o *outbound) interruptHandshake() { _ = o.conn.SetReadDeadline(aLongTimeAgo) }

// failuresAfter returns how many connections in a row have failed, for the backoff, when so many had
// before this one. None, if a message was read or the connection lived for long; in a session, if
// one was acknowledged. One that lived for a moment only counts as the first failure all the same,
// so that a reader that is full and sends its writers away is not called all the time.
func (o *outbound) failuresAfter(before int) int {
	lived := time.Since(o.startedAt)
	proven := o.read.confirmed > 0
	if o.back != nil {
		proven = o.back.progress.Load()
	}
	switch {
	case o.back == nil && lived >= resetBackoffAfter, proven && lived >= minUsefulLife:
		return 0
	case proven:
		return 1
	}
	return before + 1
}
