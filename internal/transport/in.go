// SPDX-License-Identifier: Apache-2.0

// Package transport has one connection: an In receives, an Out sends, and both use what the kernel
// reports about the peer. An In has frames, deadlines, the acknowledgements and the graceful close of
// a Reader. An Out has vectored writes, the session handshake, and the outcome of the messages at the
// end. A connection belongs to the goroutine that uses it.
package transport

// This file has the receiving connection: its parts, and its methods for a Reader or a Conn.

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
)

// An In is a receiving connection. It belongs to the goroutine that reads it, except for the methods
// that say otherwise.
type In struct {
	conn      net.Conn
	kind      connKind
	raw       syscall.RawConn // nil for otherConn.
	limit     uint64          // The largest message.
	inherited bool            // An earlier process has read from it.
	// Called before the inactivity timeout closes the connection; may be nil.
	keepOpen func() bool
	session  *AckSender // nil without one.
	// In a session: the Writer retransmits messages that are not handled.
	peerRetransmits atomic.Bool
	counts          connCounts
	input           readBuffer
	oversize        oversize
	gathered        gathered
	attempt         attempt
	wait            waits
	end             inEnd
	handOver        handOver

	deadlineMu sync.Mutex // Guards the read deadline, and the fields of wait and end that say so.
}

// Limits are the limits of a receiving connection, and what is known of it at the beginning.
type Limits struct {
	MaxMessageSize      uint64
	ReadSize            int           // Of a read, in bytes.
	IdleTimeout         time.Duration // 0: for ever.
	FirstMessageTimeout time.Duration // From the beginning to the end of the first message; 0 for any.
	MessageTimeout      time.Duration // From the first byte of a message to its last; 0 for any.
	Inherited           bool          // An earlier process has read from it.
}

// NewIn returns an In that owns conn.
func NewIn(conn net.Conn, limits Limits, memory Memory) *In {
	in := &In{conn: conn, limit: limits.MaxMessageSize, inherited: limits.Inherited}
	in.kind, in.raw = kindOf(conn)
	if !canTryRead {
		in.raw = nil
	}
	_, in.end.tlsPending = conn.(*tls.Conn)
	in.end.cancelled = make(chan struct{})
	in.input = readBuffer{memory: memory, readSize: 1 << buffers.Class(limits.ReadSize)}
	in.wait = waits{
		idleTimeout: limits.IdleTimeout, firstMessageTimeout: limits.FirstMessageTimeout,
		messageTimeout: limits.MessageTimeout, startedAt: time.Now(), recheck: make(chan struct{}, 1),
	}
	in.attempt.tryFunc = in.tryRead
	return in
}

// Connection returns the connection that In reads from; with TLS, the TLS connection.
func (in *In) Connection() net.Conn { return in.conn }

// SetUser sets the user to whom the read memory of the connection counts.
func (in *In) SetUser(identity string) { in.input.reserved.User = identity }

// KeepOpenIf sets a function that is asked before the connection ends for inactivity. It also makes
// errors about messages over the limit show how those begin. It must be called before the first Fill.
func (in *In) KeepOpenIf(busy func() bool) {
	in.oversize.wantHead = true
	in.keepOpen = busy
}

// IsClosing reports whether RequestClose or Reject was called. Any goroutine may call it.
func (in *In) IsClosing() bool { return in.end.closing.Load() }

// IsHalted reports whether Halt was called. Any goroutine may call it.
func (in *In) IsHalted() bool { return in.end.halted.Load() }

// IsAcknowledged reports whether a session has begun: the Writer retransmits a message that is not
// handled. Any goroutine may call it.
func (in *In) IsAcknowledged() bool { return in.peerRetransmits.Load() }

// Skipping returns the number of bytes of a message over the limit that are still to be skipped.
func (in *In) Skipping() uint64 { return in.oversize.skipBytes }

// Received returns the number of messages that were handed over. Any goroutine may call it.
func (in *In) Received() uint64 { return in.counts.received.Load() }

// UnreadBytes returns the number of bytes in the socket, or 0 if the kernel does not report it. Any
// goroutine may call it.
func (in *In) UnreadBytes() int {
	if in.raw == nil {
		return 0
	}
	return readableBytes(in.raw)
}

// CloseNow closes the connection without a goodbye. Any goroutine may call it.
func (in *In) CloseNow() { CloseNow(in.conn) }

// LastMessage returns the message that was handed over last. It is valid until the next read.
func (in *In) LastMessage() []byte { return in.input.lastMessage() }

// Keep returns the buffer of the message that was handed over last, and makes the caller one of its
// holders: the message stays valid until the caller releases the buffer. The memory does not count
// to the connection any more once it reads into another buffer. Keep returns nil without a buffer.
func (in *In) Keep() *buffers.Buffer { return in.input.keep() }

// PartialBytes returns the number of buffered bytes that were not handed over.
func (in *In) PartialBytes() int { return in.input.size() }

// ReleaseForPause releases the read memory while the connection waits for its peer. It returns the
// number of bytes that stay buffered.
func (in *In) ReleaseForPause() (kept int) {
	in.input.releaseForPause()
	return in.input.size()
}

// ReleaseBuffer returns the buffer to the pool.
func (in *In) ReleaseBuffer() { in.input.release() }

// AbandonBuffer leaves the buffer to the collector: the last message may still be in use.
func (in *In) AbandonBuffer() { in.input.abandon() }
