// SPDX-License-Identifier: Apache-2.0

package transport

// This file has the sending connection: its parts, and its methods for a sender.

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	minUsefulLife     = 10 * time.Millisecond // A connection that ended earlier was of no use.
	ResetBackoffAfter = time.Second           // A connection that lasted this long resets the backoff.
)

// An Out is a sending connection. It belongs to the goroutine that writes, except for what is marked
// otherwise. Exactly one other goroutine, that of ReadLoop, reads from it.
type Out struct {
	conn       net.Conn
	kind       connKind
	raw        syscall.RawConn // nil for otherConn.
	underlying syscall.RawConn // Of the socket beneath TLS; nil without one.
	timeout    time.Duration   // Of one write.
	try        *TryWriter      // nil before CanTryWrite, and if a write may wait.
	tryBuf     [1][]byte       // For try; a field, so that it is not allocated.
	vector     net.Buffers     // Consumed by WriteTo; a field, so that it is not allocated.
	startedAt  time.Time
	back       *backChannel // nil without a session.

	bytes    atomic.Int64 // Bytes written. Any goroutine may read it.
	messages uint64       // Messages written completely.
	read     readMarks
	stall    writeStall
	end      outEnd

	mu            sync.Mutex  // Guards the write deadline, together with writeStopped.
	deadlineSetAt time.Time   // When the write deadline was set.
	interrupted   atomic.Bool // The deadline was then set to the past, to interrupt a write.
	writeStopped  atomic.Bool // No more writes: the peer closes the connection, or has closed it.
}

// An outEnd is the state of the end of a connection.
type outEnd struct {
	cutShort          bool          // A write failed after the kernel took a part of it.
	tryFailed         error         // Of a TryWrite, not because the socket was full or for a deadline.
	goodbyeReceived   atomic.Bool   // The peer has sent the goodbye.
	goodbye           goodbyeReader // What the peer sent, without a session. Written by ReadLoop alone.
	bytesAtForcedStop atomic.Int64  // Bytes written, if all had arrived at a forced stop; else 0.
	done              chan struct{} // Closed by ReadLoop; cause and goodbye are set before.
	cause             error
}

// NewOut returns an Out that owns conn.
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

// GrowSendBuffer asks for a send buffer of so many bytes on a Unix socket that has a smaller one. Linux
// doubles what it is asked for, and reports the double (socket(7)). If it allows less
// (net.core.wmem_max), the buffer gets that.
func GrowSendBuffer(conn net.Conn, bytes int) {
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		return
	}
	if _, raw := kindOf(conn); raw != nil && sendBufferSize(raw) < 2*bytes {
		_ = socket.SetWriteBuffer(bytes)
	}
}

// isTLS reports whether the connection uses TLS.
func (o *Out) isTLS() bool { return isTLS(o.conn) }

// IsWriteStopped reports whether the sender must not write any more: the peer closes the
// connection, or has closed it. Any goroutine may call it.
func (o *Out) IsWriteStopped() bool { return o.writeStopped.Load() }

// IsSession reports whether the peer acknowledges.
func (o *Out) IsSession() bool { return o.back != nil }

// HeartbeatInterval returns the interval of heartbeats that the reader of a session expects; 0 for
// none.
func (o *Out) HeartbeatInterval() time.Duration { return o.back.heartbeatInterval }

// Written returns the number of bytes that the kernel has taken. Any goroutine may call it.
func (o *Out) Written() int64 { return o.bytes.Load() }

// WroteMessages reports whether a message was written completely.
func (o *Out) WroteMessages() bool { return o.messages > 0 }

// MarkProgress records that a message was acknowledged: the connection was of use.
func (o *Out) MarkProgress() { o.back.progress.Store(true) }

// ForceClose closes the connection at once, and records whether everything had arrived. Any
// goroutine may call it.
func (o *Out) ForceClose() {
	if written := o.bytes.Load(); o.allArrived() {
		o.end.bytesAtForcedStop.Store(written)
	}
	o.stopWriting()
	CloseNow(o.conn)
}

// CloseNow closes the connection without a close_notify. Any goroutine may call it.
func (o *Out) CloseNow() { CloseNow(o.conn) }

// Close closes the connection.
func (o *Out) Close() { _ = o.conn.Close() }

// WaitReadLoop waits until ReadLoop has returned.
func (o *Out) WaitReadLoop() { <-o.end.done }

// InterruptHandshake makes SessionHandshake call Cancelled. Any goroutine may call it.
func (o *Out) InterruptHandshake() { _ = o.conn.SetReadDeadline(PastDeadline) }

// FailuresAfter returns the number of consecutive failed connections after this one, for the
// backoff; before is the number before it. It returns 0 if a message was read or the connection
// lasted for long; in a session, if a message was acknowledged. A connection that ended at once
// counts as a failure anyway: a reader that is full and closes connections must not be dialed in a
// loop.
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
