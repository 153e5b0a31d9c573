// SPDX-License-Identifier: Apache-2.0

package transport

// This file is the reader's end of a session: it acknowledges handled messages and sends
// heartbeats.

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

const (
	ackMessages = 2048                  // Messages after which a busy connection acknowledges,
	ackBytes    = 256 << 10             // bytes after which it does,
	ackInterval = 10 * time.Millisecond // and time after which it does.
	ackTimeout  = time.Second           // Timeout of writing an acknowledgement.
)

// An AckSender acknowledges the handled messages of a connection: before a wait for bytes, after
// ackMessages or ackBytes, and by a timer while a handler is slow.
type AckSender struct {
	in            *In
	handledBefore uint64 // Last message that was handled before this connection.
	// Messages up to this one may have been handled by an earlier reader.
	maybeHandledThrough uint64
	heartbeatInterval   time.Duration // Interval of the heartbeats to the writer; 0 for none.

	unhandled       uint64 // Number of the last received messages that are not handled: 1 after a failure, or a batch.
	ackedBytes      uint64 // Bytes read at the last acknowledgement by the reading goroutine.
	unackedMessages int    // Messages since then.

	// With batches: the last handled message. ackOnTimer uses it instead of the number of received ones.
	batchHandled atomic.Uint64

	mu             sync.Mutex // Guards what follows, and writing.
	inBatches      bool       // Messages are handled in batches.
	acked          uint64
	handling       bool // Messages are being handled.
	ackTimerSet    bool // ackTimer will fire.
	closed         bool
	err            error // Why nothing more can be written.
	ackTimer       *time.Timer
	heartbeatTimer *time.Timer
	scratch        [wire.MaxPrefixSize]byte
}

// newAckSender starts a session after the message handled. The caller sends the welcome.
func newAckSender(in *In, handled, repeat uint64, heartbeatInterval time.Duration) *AckSender {
	s := &AckSender{
		in: in, handledBefore: handled, acked: handled, maybeHandledThrough: repeat,
		heartbeatInterval: heartbeatInterval,
	}
	s.mu.Lock() // The timers use the fields.
	defer s.mu.Unlock()
	s.ackTimer = time.AfterFunc(time.Hour, s.ackOnTimer)
	s.ackTimer.Stop()
	if heartbeatInterval > 0 {
		s.heartbeatTimer = time.AfterFunc(heartbeatInterval, s.sendHeartbeat)
	}
	return s
}

// Handled returns the last handled message. Only the reading goroutine may call it.
func (s *AckSender) Handled() uint64 {
	return s.handledBefore + s.in.counts.received.Load() - s.unhandled
}

// SendWelcome sends the welcome. If that fails, the next read returns the error.
func (s *AckSender) SendWelcome() {
	_ = s.send(wire.Welcome{
		Handled: s.handledBefore, Limit: s.in.limit, HeartbeatTimeout: s.in.wait.heartbeatTimeout,
	}.Append(nil))
}

// Negotiated returns the values of the session handshake.
func (s *AckSender) Negotiated() (limit uint64, heartbeatTimeout, heartbeatInterval time.Duration) {
	return s.in.limit, s.in.wait.heartbeatTimeout, s.heartbeatInterval
}

// Seq returns the sequence number of the last message that was handed over.
func (s *AckSender) Seq() uint64 { return s.handledBefore + s.in.counts.received.Load() }

// MarkFailed records that the last message is not handled, MarkHandled that it is.
func (s *AckSender) MarkFailed() { s.unhandled = 1 }

// MarkHandled notes that the last message is handled after all.
func (s *AckSender) MarkHandled() { s.unhandled = 0 }

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

// BeforeBatch is called before the buffered messages are handled.
func (s *AckSender) BeforeBatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handling = true
	if !s.ackTimerSet {
		s.ackTimerSet = true
		s.ackTimer.Reset(ackInterval)
	}
}

// BeforeMessage is called before each message: those before it are handled.
func (s *AckSender) BeforeMessage() {
	if s.unackedMessages++; s.unackedMessages >= ackMessages {
		s.unackedMessages = 0
		s.mu.Lock()
		s.acknowledgeLocked(s.Handled() - 1)
		s.mu.Unlock()
	}
}

// AfterBatch is called after the buffered messages are handled.
func (s *AckSender) AfterBatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handling = false
	if bytes := s.in.counts.receivedBytes.Load(); bytes-s.ackedBytes >= ackBytes || s.unackedMessages >= ackMessages {
		s.ackedBytes, s.unackedMessages = bytes, 0
		s.acknowledgeLocked(s.Handled())
	}
}

// acknowledge acknowledges the handled messages.
func (s *AckSender) acknowledge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ackedBytes = s.in.counts.receivedBytes.Load()
	s.acknowledgeLocked(s.Handled())
}

// ackOnTimer acknowledges while a handler runs. All received messages but the last are handled,
// because the next one is handed over only then. With batches, batchHandled has the number. Like
// sendHeartbeat, it does nothing while another goroutine writes.
func (s *AckSender) ackOnTimer() {
	if !s.mu.TryLock() {
		s.ackTimer.Reset(ackInterval)
		return
	}
	defer s.mu.Unlock()
	s.ackTimerSet = s.handling && !s.closed
	if received := s.in.counts.received.Load(); s.ackTimerSet && s.inBatches {
		s.acknowledgeLocked(s.batchHandled.Load())
	} else if s.ackTimerSet && received > 0 {
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

// sendLocked writes to the writer. After a timeout the connection is closed: the welcome of the
// next one has the missing acknowledgement.
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

// send is sendLocked for the welcome.
func (s *AckSender) send(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendLocked(b)
	return s.err
}

// sendHeartbeat sends a heartbeat and restarts the timer.
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

// Close sends the last acknowledgement. It returns an error if that failed.
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
