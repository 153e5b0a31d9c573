// SPDX-License-Identifier: Apache-2.0

package transport

// This file is the reader's end of a session: when what was handled is acknowledged, and the
// heartbeats.

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

const (
	ackMessages = 2048                  // After so many messages,
	ackBytes    = 256 << 10             // or so many bytes,
	ackInterval = 10 * time.Millisecond // or so long, what was handled is acknowledged in a busy connection.
	ackTimeout  = time.Second           // How long the writer may take to make room for an acknowledgement.
)

// An AckSender acknowledges what a connection has handled: before that waits for bytes, after each
// so many messages or bytes, and, by a timer, while a handler is slow.
type AckSender struct {
	in                  *In
	handledBefore       uint64        // The last message that was handled before this connection.
	maybeHandledThrough uint64        // Up to this message an earlier reader may have handled them.
	heartbeatInterval   time.Duration // How often the writer wants to hear something; 0 for never.

	lastFailed      uint64 // 1 if the last message that was received was not handled after all.
	ackedBytes      uint64 // What was read when the last acknowledgement was sent by the connection itself.
	unackedMessages int    // Messages since then.

	mu             sync.Mutex // Guards what follows, and writing.
	acked          uint64
	handling       bool // Messages are being handled.
	ackTimerSet    bool // ackTimer will fire.
	closed         bool
	err            error // Why nothing more can be written.
	ackTimer       *time.Timer
	heartbeatTimer *time.Timer
	scratch        [wire.MaxPrefixSize]byte
}

// newAckSender begins a session that goes on behind the message handled. The welcome is still to be
// sent.
func newAckSender(in *In, handled, repeat uint64, heartbeatInterval time.Duration) *AckSender {
	s := &AckSender{in: in, handledBefore: handled, acked: handled, maybeHandledThrough: repeat, heartbeatInterval: heartbeatInterval}
	s.mu.Lock() // The timers look at themselves.
	defer s.mu.Unlock()
	s.ackTimer = time.AfterFunc(time.Hour, s.ackOnTimer)
	s.ackTimer.Stop()
	if heartbeatInterval > 0 {
		s.heartbeatTimer = time.AfterFunc(heartbeatInterval, s.sendHeartbeat)
	}
	return s
}

// Handled is the last message that is handled, as the connection's own goroutine knows it.
func (s *AckSender) Handled() uint64 {
	return s.handledBefore + s.in.counts.received.Load() - s.lastFailed
}

// SendWelcome tells the writer that the session goes on. If that fails, reading tells what became
// of the connection.
func (s *AckSender) SendWelcome() {
	_ = s.send(wire.Welcome{Handled: s.handledBefore, Limit: s.in.limit, HeartbeatTimeout: s.in.wait.heartbeatTimeout}.Append(nil))
}

// Negotiated returns what the two ends have told each other in the session handshake.
func (s *AckSender) Negotiated() (limit uint64, heartbeatTimeout, heartbeatInterval time.Duration) {
	return s.in.limit, s.in.wait.heartbeatTimeout, s.heartbeatInterval
}

// Seq returns the sequence number of the last message that was handed over.
func (s *AckSender) Seq() uint64 { return s.handledBefore + s.in.counts.received.Load() }

// MarkFailed notes that the last message is not handled.
func (s *AckSender) MarkFailed() { s.lastFailed = 1 }

// MarkHandled notes that the last message is handled after all.
func (s *AckSender) MarkHandled() { s.lastFailed = 0 }

// MayRepeat reports whether an earlier reader may have handled this message or a later one.
func (s *AckSender) MayRepeat() bool { return s.maybeHandledThrough != 0 }

// IsRedelivered reports whether an earlier reader may have handled the last message.
func (s *AckSender) IsRedelivered() bool {
	if s.Seq() <= s.maybeHandledThrough {
		return true
	}
	s.maybeHandledThrough = 0
	return false
}

// BeforeBatch says that messages are about to be handled.
func (s *AckSender) BeforeBatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handling = true
	if !s.ackTimerSet {
		s.ackTimerSet = true
		s.ackTimer.Reset(ackInterval)
	}
}

// BeforeMessage says that a message is about to be handled, and those before it are.
func (s *AckSender) BeforeMessage() {
	if s.unackedMessages++; s.unackedMessages >= ackMessages {
		s.unackedMessages = 0
		s.mu.Lock()
		s.acknowledgeLocked(s.Handled() - 1)
		s.mu.Unlock()
	}
}

// AfterBatch says that all messages that were there are handled.
func (s *AckSender) AfterBatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handling = false
	if bytes := s.in.counts.receivedBytes.Load(); bytes-s.ackedBytes >= ackBytes {
		s.ackedBytes = bytes
		s.acknowledgeLocked(s.Handled())
	}
}

// acknowledge tells the writer what is handled.
func (s *AckSender) acknowledge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackedBytes = s.in.counts.receivedBytes.Load()
	s.acknowledgeLocked(s.Handled())
}

// ackOnTimer acknowledges in the middle of it all. Whatever was received before the last message is
// handled, because the next one is handed over only then. Like sendHeartbeat it does not wait for somebody
// who writes already.
func (s *AckSender) ackOnTimer() {
	if !s.mu.TryLock() {
		s.ackTimer.Reset(ackInterval)
		return
	}
	defer s.mu.Unlock()
	s.ackTimerSet = s.handling && !s.closed
	if received := s.in.counts.received.Load(); s.ackTimerSet && received > 0 {
		s.acknowledgeLocked(s.handledBefore + received - 1)
	}
	if s.ackTimerSet {
		s.ackTimer.Reset(ackInterval)
	}
}

func (s *AckSender) acknowledgeLocked(handled uint64) {
	if handled <= s.acked || s.err != nil {
		return
	}
	s.in.counts.acknowledged.Add(handled - s.acked)
	s.acked = handled
	s.sendLocked(binary.AppendUvarint(s.scratch[:0], handled))
}

// sendLocked writes to the writer. One that does not read for so long is left: what it was not told
// of is in the welcome of its next connection.
func (s *AckSender) sendLocked(b []byte) {
	if s.err != nil || s.closed {
		return
	}
	_ = s.in.conn.SetWriteDeadline(time.Now().Add(ackTimeout))
	if _, s.err = s.in.conn.Write(b); IsTimeout(s.err) {
		s.err = fmt.Errorf("%w: writing an acknowledgement timed out after %v", errdefs.ErrBackpressure, ackTimeout)
		s.in.Halt()
	}
}

// send is sendLocked, for the welcome.
func (s *AckSender) send(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendLocked(b)
	return s.err
}

// sendHeartbeat sends a heartbeat, again and again.
func (s *AckSender) sendHeartbeat() {
	if !s.mu.TryLock() {
		s.heartbeatTimer.Reset(s.heartbeatInterval)
		return
	}
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.sendLocked(wire.Heartbeat)
	s.heartbeatTimer.Reset(s.heartbeatInterval)
}

// Close acknowledges what is handled, for the last time. It returns why that was not possible.
func (s *AckSender) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acknowledgeLocked(s.Handled())
	s.closed = true
	s.ackTimer.Stop()
	if s.heartbeatTimer != nil {
		s.heartbeatTimer.Stop()
	}
	return s.err
}
