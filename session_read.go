// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the reader's end of a session: when what was handled is acknowledged, and the
// heartbeats.

import (
	"encoding/binary"
	"fmt"
	"sync"
	"time"
)

const (
	ackMessages = 2048                  // After so many messages,
	ackBytes    = 256 << 10             // or so many bytes,
	ackInterval = 10 * time.Millisecond // or so long, what was handled is acknowledged in a busy connection.
	ackTimeout  = time.Second           // How long the writer may take to make room for an acknowledgement.
)

// An ackSender acknowledges what a connection has handled: before that waits for bytes, after each
// so many messages or bytes, and, by a timer, while a handler is slow.
type ackSender struct {
	in                  *inbound
	handledBefore       uint64        // The last message that was handled before this connection.
	maybeHandledThrough uint64        // Up to this message an earlier reader may have handled them.
	heartbeatInterval   time.Duration // How often the writer wants to hear something; 0 for never.

	lastFailed      uint64 // 1 if the last message that was received was not handled after all.
	ackedBytes      uint64 // What was read when the last acknowledgement was sent by the connection itself.
	unackedMessages int    // Messages since then.

	mu             sync.Mutex // Guards what follows, and writing.
	acked          uint64
	handling       bool // Messages are being handled.
	ackTimerSet    bool // ticker will fire.
	closed         bool
	err            error // Why nothing more can be written.
	ackTimer       *time.Timer
	heartbeatTimer *time.Timer
	scratch        [maxPrefixSize]byte
}

// newAckSender begins a session that goes on behind the message handled. The welcome is still to be
// sent.
func newAckSender(in *inbound, handled, repeat uint64, beat time.Duration) *ackSender {
	s := &ackSender{in: in, handledBefore: handled, acked: handled, maybeHandledThrough: repeat, heartbeatInterval: beat}
	s.mu.Lock() // The timers look at themselves.
	defer s.mu.Unlock()
	s.ackTimer = time.AfterFunc(time.Hour, s.ackOnTimer)
	s.ackTimer.Stop()
	if beat > 0 {
		s.heartbeatTimer = time.AfterFunc(beat, s.sendHeartbeat)
	}
	return s
}

// handled is the last message that is handled, as the connection's own goroutine knows it.
func (s *ackSender) handled() uint64 {
	return s.handledBefore + s.in.counts.received.Load() - s.lastFailed
}

// sendWelcome tells the writer that the session goes on. If that fails, reading tells what became
// of the connection.
func (s *ackSender) sendWelcome() {
	_ = s.send(appendWelcome(nil, welcome{handled: s.handledBefore, limit: s.in.limit, heartbeatTimeout: s.in.wait.heartbeatTimeout}))
}

// negotiated returns what the two ends have told each other in the greeting.
func (s *ackSender) negotiated() (limit uint64, silence, beat time.Duration) {
	return s.in.limit, s.in.wait.heartbeatTimeout, s.heartbeatInterval
}

// seq returns the sequence number of the last message that was handed over.
func (s *ackSender) seq() uint64 { return s.handledBefore + s.in.counts.received.Load() }

// markFailed notes that the last message is not handled, markHandled that it is.
func (s *ackSender) markFailed()  { s.lastFailed = 1 }
func (s *ackSender) markHandled() { s.lastFailed = 0 }

// mayRepeat reports whether an earlier reader may have handled this message or a later one.
func (s *ackSender) mayRepeat() bool { return s.maybeHandledThrough != 0 }

// isRedelivered reports whether an earlier reader may have handled the last message.
func (s *ackSender) isRedelivered() bool {
	if s.seq() <= s.maybeHandledThrough {
		return true
	}
	s.maybeHandledThrough = 0
	return false
}

// beforeBatch says that messages are about to be handled.
func (s *ackSender) beforeBatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handling = true
	if !s.ackTimerSet {
		s.ackTimerSet = true
		s.ackTimer.Reset(ackInterval)
	}
}

// beforeMessage says that a message is about to be handled, and those before it are.
func (s *ackSender) beforeMessage() {
	if s.unackedMessages++; s.unackedMessages >= ackMessages {
		s.unackedMessages = 0
		s.mu.Lock()
		s.acknowledgeLocked(s.handled() - 1)
		s.mu.Unlock()
	}
}

// afterBatch says that all messages that were there are handled.
func (s *ackSender) afterBatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handling = false
	if bytes := s.in.counts.receivedBytes.Load(); bytes-s.ackedBytes >= ackBytes {
		s.ackedBytes = bytes
		s.acknowledgeLocked(s.handled())
	}
}

// acknowledge tells the writer what is handled.
func (s *ackSender) acknowledge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackedBytes = s.in.counts.receivedBytes.Load()
	s.acknowledgeLocked(s.handled())
}

// ackOnTimer acknowledges in the middle of it all. Whatever was received before the last message is
// handled, because the next one is handed over only then. Like sendHeartbeat it does not wait for somebody
// who writes already.
func (s *ackSender) ackOnTimer() {
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

func (s *ackSender) acknowledgeLocked(handled uint64) {
	if handled <= s.acked || s.err != nil {
		return
	}
	s.in.counts.acknowledged.Add(handled - s.acked)
	s.acked = handled
	s.sendLocked(binary.AppendUvarint(s.scratch[:0], handled))
}

// sendLocked writes to the writer. One that does not read for so long is left: what it was not told
// of is in the welcome of its next connection.
func (s *ackSender) sendLocked(b []byte) {
	if s.err != nil || s.closed {
		return
	}
	_ = s.in.conn.SetWriteDeadline(time.Now().Add(ackTimeout))
	if _, s.err = s.in.conn.Write(b); isTimeout(s.err) {
		s.err = fmt.Errorf("%w: writing an acknowledgement timed out after %v", errBackpressure, ackTimeout)
		s.in.halt()
	}
}

// send is sendLocked, for the welcome.
func (s *ackSender) send(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendLocked(b)
	return s.err
}

// sendHeartbeat sends a heartbeat, again and again.
func (s *ackSender) sendHeartbeat() {
	if !s.mu.TryLock() {
		s.heartbeatTimer.Reset(s.heartbeatInterval)
		return
	}
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.sendLocked(heartbeat)
	s.heartbeatTimer.Reset(s.heartbeatInterval)
}

// close acknowledges what is handled, for the last time. It returns why that was not possible.
func (s *ackSender) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acknowledgeLocked(s.handled())
	s.closed = true
	s.ackTimer.Stop()
	if s.heartbeatTimer != nil {
		s.heartbeatTimer.Stop()
	}
	return s.err
}
