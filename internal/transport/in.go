// SPDX-License-Identifier: Apache-2.0

// Package transport is one connection. An In receives: frames, deadlines, the acknowledgements and the graceful close of a
// Reader. An Out sends: vectored writes, the session handshake, and what became of the messages at the end. Both know
// what the kernel tells of the peer. A connection belongs to the goroutine that uses it; the package starts none that
// outlives a call.
package transport

// This file is a receiving connection: its parts, and what a receiver or a Conn asks of it.

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
	conn            net.Conn
	kind            connKind
	raw             syscall.RawConn // nil for otherConn.
	limit           uint64          // The largest message.
	inherited       bool            // An earlier process has read from it.
	keepOpen        func() bool     // Asked before the end for inactivity; nil for no.
	session         *AckSender      // nil without one.
	peerRetransmits atomic.Bool     // In a session: what is not handled comes again.
	counts          connCounts
	input           readBuffer
	oversize        oversize
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

// NewIn takes over conn.
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
		idleTimeout: limits.IdleTimeout, firstMessageTimeout: limits.FirstMessageTimeout, messageTimeout: limits.MessageTimeout,
		startedAt: time.Now(), recheck: make(chan struct{}, 1),
	}
	in.attempt.tryFunc = in.tryRead
	return in
}

// Connection returns the connection that it reads from, with TLS if that speaks it.
func (in *In) Connection() net.Conn { return in.conn }

// SetUser sets the user to whom the read memory of the connection counts.
func (in *In) SetUser(identity string) { in.input.reserved.User = identity }

// KeepOpenIf sets a function that is asked before the connection ends for inactivity. It also makes
// errors about messages over the limit show how those begin. It must be called before the first Fill.
func (in *In) KeepOpenIf(busy func() bool) {
	in.oversize.wantHead = true
	in.keepOpen = busy
}

// IsClosing reports whether RequestClose or Reject was called. Any goroutine may ask.
func (in *In) IsClosing() bool { return in.end.closing.Load() }

// IsHalted reports whether Halt was called. Any goroutine may ask.
func (in *In) IsHalted() bool { return in.end.halted.Load() }

// IsAcknowledged reports whether a session has begun, so that a message that is not handled is sent
// again. Any goroutine may ask.
func (in *In) IsAcknowledged() bool { return in.peerRetransmits.Load() }

// Skipping returns how many bytes of a message over the limit are still to come.
func (in *In) Skipping() uint64 { return in.oversize.skipBytes }

// Received returns how many messages were handed over. Any goroutine may ask.
func (in *In) Received() uint64 { return in.counts.received.Load() }

// UnreadBytes returns how many bytes lie in the socket, where the kernel can tell. Any goroutine
// may ask.
func (in *In) UnreadBytes() int {
	if in.raw == nil {
		return 0
	}
	return readableBytes(in.raw)
}

// CloseNow closes the connection without a goodbye. Any goroutine may call it.
func (in *In) CloseNow() { CloseNow(in.conn) }

// LastMessage is the message that was handed over last, as long as nothing is read after it.
func (in *In) LastMessage() []byte { return in.input.lastMessage() }

// PartialBytes returns how many bytes of an unfinished message there are.
func (in *In) PartialBytes() int { return in.input.size() }

// ReleaseForPause gives back the read memory before a wait that the peer decides on, and returns how many
// bytes stay.
func (in *In) ReleaseForPause() (kept int) {
	in.input.releaseForPause()
	return in.input.size()
}

// ReleaseBuffer returns the buffer to the pool.
func (in *In) ReleaseBuffer() { in.input.release() }

// AbandonBuffer leaves the buffer to the collector: the last message may still be in use.
func (in *In) AbandonBuffer() { in.input.abandon() }
