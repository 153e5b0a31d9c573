// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is a receiving connection, what it is made of, and what a Reader or a Conn asks of it.

import (
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// An inbound connection belongs to the goroutine that reads it, but for the methods that say
// otherwise.
type inbound struct {
	conn            net.Conn
	kind            connKind
	raw             syscall.RawConn // nil for otherConn.
	limit           uint64          // The largest message.
	inherited       bool            // An earlier process has read from it.
	keepOpen        func() bool     // Asked before the end for inactivity; nil for no.
	session         *ackSender      // nil without one.
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

// inLimits are what a receiving connection puts up with, and what is known of it at the beginning.
type inLimits struct {
	maxMessageSize      uint64
	readSize            int           // Of a read, in bytes.
	idleTimeout         time.Duration // 0: for ever.
	firstMessageTimeout time.Duration // From the beginning to the end of the first message; 0 for any.
	messageTimeout      time.Duration // From the first byte of a message to its last; 0 for any.
	inherited           bool          // An earlier process has read from it.
}

// newInbound takes over conn.
func newInbound(conn net.Conn, limits inLimits, memory memoryLimit) *inbound {
	in := &inbound{conn: conn, limit: limits.maxMessageSize, inherited: limits.inherited}
	in.kind, in.raw = kindOf(conn)
	if !canTryRead {
		in.raw = nil
	}
	_, in.end.tlsPending = conn.(*tls.Conn)
	in.end.cancelled = make(chan struct{})
	in.input = readBuffer{memory: memory, readSize: 1 << bufferClass(limits.readSize)}
	in.wait = waits{
		idleTimeout: limits.idleTimeout, firstMessageTimeout: limits.firstMessageTimeout, messageTimeout: limits.messageTimeout,
		startedAt: time.Now(), recheck: make(chan struct{}, 1),
	}
	in.attempt.tryFunc = in.tryRead
	return in
}

// connection returns the connection that it reads from, with TLS if that speaks it.
func (in *inbound) connection() net.Conn { return in.conn }

// setUser sets the user to whom the read memory of the connection counts.
func (in *inbound) setUser(identity string) { in.input.reserved.user = identity }

// keepOpenIf sets who is asked before the connection ends for inactivity, and has errors about
// messages over the limit show how those begin. It must be called before the first fill.
func (in *inbound) keepOpenIf(busy func() bool) {
	in.oversize.wantHead = true
	in.keepOpen = busy
}

// isClosing reports whether requestClose or reject was called. Any goroutine may ask.
func (in *inbound) isClosing() bool { return in.end.closing.Load() }

// isHalted reports whether halt was called. Any goroutine may ask.
func (in *inbound) isHalted() bool { return in.end.halted.Load() }

// isAcknowledged reports whether a session has begun, so that a message that is not handled is sent
// again. Any goroutine may ask.
func (in *inbound) isAcknowledged() bool { return in.peerRetransmits.Load() }

// skipping returns how many bytes of a message over the limit are still to come.
func (in *inbound) skipping() uint64 { return in.oversize.skipBytes }

// received returns how many messages were handed over. Any goroutine may ask.
func (in *inbound) received() uint64 { return in.counts.received.Load() }

// unreadBytes returns how many bytes lie in the socket, where the kernel can tell. Any goroutine
// may ask.
func (in *inbound) unreadBytes() int {
	if in.raw == nil {
		return 0
	}
	return readableBytes(in.raw)
}

// closeNow closes the connection without a goodbye. Any goroutine may call it.
func (in *inbound) closeNow() { closeNow(in.conn) }

// lastMessage is the message that was handed over last, as long as nothing is read after it.
func (in *inbound) lastMessage() []byte { return in.input.lastMessage() }

// partialBytes returns how many bytes of an unfinished message there are.
func (in *inbound) partialBytes() int { return in.input.size() }

// releaseForPause gives back the read memory before a wait that the peer decides on, and returns how many
// bytes stay.
func (in *inbound) releaseForPause() (kept int) {
	in.input.releaseForPause()
	return in.input.size()
}

// releaseBuffer gives the buffer back. drop does so while somebody may still use the last message.
func (in *inbound) releaseBuffer() { in.input.release() }
func (in *inbound) abandonBuffer() { in.input.abandon() }
