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

// An inSession acknowledges what a connection has handled: before that waits for bytes, after each
// so many messages or bytes, and, by a timer, while a handler is slow.
type inSession struct {
	in     *inbound
	base   uint64        // The last message that was handled before this connection.
	repeat uint64        // Up to this message an earlier reader may have handled them.
	beat   time.Duration // How often the writer wants to hear something; 0 for never.

	undone uint64 // 1 if the last message that was received was not handled after all.
	bytes  uint64 // What was read when the last acknowledgement was sent by the connection itself.
	since  int    // Messages since then.

	mu      sync.Mutex // Guards what follows, and writing.
	acked   uint64
	busy    bool // Messages are being handled.
	armed   bool // ticker will fire.
	over    bool
	err     error // Why nothing more can be written.
	ticker  *time.Timer
	beater  *time.Timer
	scratch [maxHeaderSize]byte
}

// newInSession begins a session that goes on behind the message handled. The welcome is still to be
// sent.
func newInSession(in *inbound, handled, repeat uint64, beat time.Duration) *inSession {
	s := &inSession{in: in, base: handled, acked: handled, repeat: repeat, beat: beat}
	s.mu.Lock() // The timers look at themselves.
	defer s.mu.Unlock()
	s.ticker = time.AfterFunc(time.Hour, s.tick)
	s.ticker.Stop()
	if beat > 0 {
		s.beater = time.AfterFunc(beat, s.sayAlive)
	}
	return s
}

// handled is the last message that is handled, as the connection's own goroutine knows it.
func (s *inSession) handled() uint64 {
	return s.base + s.in.counts.received.Load() - s.undone
}

// sendWelcome tells the writer that the session goes on. If that fails, reading tells what became
// of the connection.
func (s *inSession) sendWelcome() {
	_ = s.send(appendWelcome(nil, welcome{handled: s.base, limit: s.in.limit, silence: s.in.wait.silence}))
}

// agreed returns what the two ends have told each other in the greeting.
func (s *inSession) agreed() (limit uint64, silence, beat time.Duration) {
	return s.in.limit, s.in.wait.silence, s.beat
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

// begin says that messages are about to be handled.
func (s *inSession) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = true
	if !s.armed {
		s.armed = true
		s.ticker.Reset(ackInterval)
	}
}

// count says that a message is about to be handled, and those before it are.
func (s *inSession) count() {
	if s.since++; s.since >= ackMessages {
		s.since = 0
		s.mu.Lock()
		s.acknowledgeLocked(s.handled() - 1)
		s.mu.Unlock()
	}
}

// end says that all messages that were there are handled.
func (s *inSession) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy = false
	if bytes := s.in.counts.receivedBytes.Load(); bytes-s.bytes >= ackBytes {
		s.bytes = bytes
		s.acknowledgeLocked(s.handled())
	}
}

// acknowledge tells the writer what is handled.
func (s *inSession) acknowledge() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes = s.in.counts.receivedBytes.Load()
	s.acknowledgeLocked(s.handled())
}

// tick acknowledges in the middle of it all. Whatever was received before the last message is
// handled, because the next one is handed over only then. Like sayAlive it does not wait for somebody
// who writes already.
func (s *inSession) tick() {
	if !s.mu.TryLock() {
		s.ticker.Reset(ackInterval)
		return
	}
	defer s.mu.Unlock()
	s.armed = s.busy && !s.over
	if received := s.in.counts.received.Load(); s.armed && received > 0 {
		s.acknowledgeLocked(s.base + received - 1)
	}
	if s.armed {
		s.ticker.Reset(ackInterval)
	}
}

func (s *inSession) acknowledgeLocked(handled uint64) {
	if handled <= s.acked || s.err != nil {
		return
	}
	s.in.counts.acknowledged.Add(handled - s.acked)
	s.acked = handled
	s.sendLocked(binary.AppendUvarint(s.scratch[:0], handled))
}

// sendLocked writes to the writer. One that does not read for so long is left: what it was not told
// of is in the welcome of its next connection.
func (s *inSession) sendLocked(b []byte) {
	if s.err != nil || s.over {
		return
	}
	_ = s.in.conn.SetWriteDeadline(time.Now().Add(ackTimeout))
	if _, s.err = s.in.conn.Write(b); isTimeout(s.err) {
		s.err = fmt.Errorf("%w: writing an acknowledgement timed out after %v", errBackpressure, ackTimeout)
		s.in.halt()
	}
}

// send is sendLocked, for the welcome.
func (s *inSession) send(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sendLocked(b)
	return s.err
}

// sayAlive sends a heartbeat, again and again.
func (s *inSession) sayAlive() {
	if !s.mu.TryLock() {
		s.beater.Reset(s.beat)
		return
	}
	defer s.mu.Unlock()
	if s.over {
		return
	}
	s.sendLocked(heartbeat)
	s.beater.Reset(s.beat)
}

// close acknowledges what is handled, for the last time. It returns why that was not possible.
func (s *inSession) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.acknowledgeLocked(s.handled())
	s.over = true
	s.ticker.Stop()
	if s.beater != nil {
		s.beater.Stop()
	}
	return s.err
}
