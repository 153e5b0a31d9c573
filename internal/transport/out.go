// SPDX-License-Identifier: Apache-2.0

package transport

// This file is a sending connection: its parts, and what a sender asks of it.

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	minUsefulLife     = 10 * time.Millisecond // A connection that lived shorter proves little.
	ResetBackoffAfter = time.Second           // One that lived so long proves enough.
)

// An Out is a sending connection. It belongs to the goroutine that writes, except for what is marked
// otherwise. Exactly one other goroutine, that of ReadLoop, reads from it.
type Out struct {
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

	mu            sync.Mutex  // Guards the write deadline against stopWriting.
	deadlineSetAt time.Time   // When the write deadline was set.
	interrupted   atomic.Bool // It was then set to the past, to interrupt a write.
	writeStopped  atomic.Bool // Nothing more should be written: the peer is going away, or gone.
}

// An outEnd is what is known of the end of a connection.
type outEnd struct {
	cutShort          bool          // A write was refused after a part of it was taken.
	goodbyeReceived   atomic.Bool   // The peer has sent the goodbye.
	goodbye           goodbyeReader // What the peer sent, without a session. Written by ReadLoop alone.
	bytesAtForcedStop atomic.Int64  // How many bytes had been written, and had arrived, when the sender was told not to wait; else 0.
	done              chan struct{} // Closed by ReadLoop; cause and goodbye are set before.
	cause             error
}

// NewOut takes over conn.
func NewOut(conn net.Conn, timeout time.Duration) *Out {
	o := &Out{conn: conn, timeout: timeout, startedAt: time.Now(), end: outEnd{done: make(chan struct{})}}
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
func (o *Out) isTLS() bool { return isTLS(o.conn) }

// IsWriteStopped reports whether nothing more should be written: the peer is going away, or gone. Any
// goroutine may ask.
func (o *Out) IsWriteStopped() bool { return o.writeStopped.Load() }

// IsSession reports whether the peer acknowledges.
func (o *Out) IsSession() bool { return o.back != nil }

// HeartbeatInterval is how often the reader of a session wants to hear something; 0 for never.
func (o *Out) HeartbeatInterval() time.Duration { return o.back.heartbeatInterval }

// Written returns how many bytes the kernel has taken. Any goroutine may ask.
func (o *Out) Written() int64 { return o.bytes.Load() }

// WroteMessages reports whether a message was written to its last byte.
func (o *Out) WroteMessages() bool { return o.messages > 0 }

// MarkProgress notes that a message is acknowledged, so that the connection was of use.
func (o *Out) MarkProgress() { o.back.progress.Store(true) }

// ForceClose ends the connection at once, and notes whether everything had arrived then. Any goroutine
// may call it.
func (o *Out) ForceClose() {
	if written := o.bytes.Load(); o.allArrived() {
		o.end.bytesAtForcedStop.Store(written)
	}
	o.stopWriting()
	CloseNow(o.conn)
}

// CloseNow closes the connection without an end of TLS. Any goroutine may call it.
func (o *Out) CloseNow() { CloseNow(o.conn) }

// Close closes the connection.
func (o *Out) Close() { _ = o.conn.Close() }

// WaitReadLoop waits until ReadLoop has returned.
func (o *Out) WaitReadLoop() { <-o.end.done }

// InterruptHandshake has greet ask whether to give up. Any goroutine may call it.
func (o *Out) InterruptHandshake() { _ = o.conn.SetReadDeadline(PastDeadline) }

// FailuresAfter returns how many connections in a row have failed, for the backoff, when so many had
// before this one. None, if a message was read or the connection lived for long; in a session, if
// one was acknowledged. One that lived for a moment only counts as the first failure all the same,
// so that a reader that is full and sends its writers away is not called all the time.
func (o *Out) FailuresAfter(before int) int {
	lived := time.Since(o.startedAt)
	proven := o.read.confirmed > 0
	if o.back != nil {
		proven = o.back.progress.Load()
	}
	switch {
	case o.back == nil && lived >= ResetBackoffAfter, proven && lived >= minUsefulLife:
		return 0
	case proven:
		return 1
	}
	return before + 1
}
