// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is what a Server knows of a connection: its calls, what it holds for them, and how it comes to its end.

import (
	"context"
	"crypto/rand"
	"sync"
	"sync/atomic"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/seam"
)

// A connState is what a Server knows of a connection.
type connState struct {
	server          *Server
	conn            *duplex.ServerConn
	seam            seam.Session // Of from.
	limit           uint64       // Of a message.
	usedBytes       atomic.Int64 // Bytes of the server's memory.
	responseDropped atomic.Bool  // A response was let go since reading was held last.

	mu           sync.Mutex // Guards what follows.
	calls        map[uint64]*call
	waitingSends int           // Messages that end a call and wait for room; their calls are still counted.
	readResume   chan struct{} // Closed when fewer wait, or at the end; nil while reading is not held for that.
	goodbyeToken string        // What the client was told goodbye with; empty if it was not.
	clientDone   bool          // It begins nothing more.
	closed       bool
}

func (s *Server) connStateOf(from *duplex.ServerConn) *connState {
	if known, ok := s.connStates.Load(from); ok {
		return known.(*connState)
	}
	fresh := &connState{server: s, conn: from, seam: seam.OfSession(from), calls: make(map[uint64]*call)}
	fresh.limit = fresh.seam.MaxMessageSize()
	if known, ok := s.connStates.LoadOrStore(from, fresh); ok {
		return known.(*connState) // Of the Stop that comes at the same time.
	}
	s.memory.sessions.Add(1)
	context.AfterFunc(from.Context(), func() {
		s.connStates.Delete(from)
		s.memory.sessions.Add(-1)
		fresh.end()
	})
	context.AfterFunc(fresh.seam.ReceiveContext(), func() { fresh.endStreams(true) })
	return fresh
}

// endStreams tells the streams of a session that no messages come for them any more; nor does credit, if the client is deaf.
func (s *connState) endStreams(deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.stream != nil {
			c.stream.endInput(deaf)
		}
	}
}

// end cancels all calls of a session.
func (s *connState) end() {
	s.mu.Lock()
	s.closed = true
	s.resumeLocked()
	calls := make([]*call, 0, len(s.calls))
	for _, c := range s.calls {
		calls = append(calls, c)
	}
	s.mu.Unlock()
	for _, c := range calls {
		c.cancel(context.Canceled)
	}
}

// find returns a call that is under way, or nil.
func (s *connState) find(id uint64) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[id]
}

// sendGoodbye tells the client of a session that the server stops.
func (s *Server) sendGoodbye(from *duplex.ServerConn) {
	session, token := s.connStateOf(from), rand.Text()[:maxToken]
	session.mu.Lock()
	session.goodbyeToken = token
	session.mu.Unlock()
	// If it is not sent, the connection has ended.
	_ = sendWith(session.seam.SendControl, typeGoodbye, func(b []byte) []byte { return append(b, token...) })
}

// onGoodbye takes the client's answer: it begins nothing more, and sends no more messages of streams.
func (s *connState) onGoodbye(token []byte) {
	s.mu.Lock()
	asked := s.goodbyeToken != "" && s.goodbyeToken == string(token)
	s.clientDone = s.clientDone || asked
	s.mu.Unlock()
	if !asked {
		return // It answers an earlier connection.
	}
	s.endStreams(false)
	s.seam.Finish()
}

// failCall ends a call with an error, in the goroutine that reads. That never waits for the client: if its queue is full,
// nothing more is read of it until there is room.
func (s *connState) failCall(id uint64, why *Error) {
	b := getBytes(nil)
	*b = appendFailure(*b, id, why, s.limit)
	_ = s.seam.SendControl(*b) // If not, the connection has ended.
	putBytes(b)
	if room := s.seam.Room(); room != nil {
		s.seam.PauseReading(room)
	}
}

// failUnread ends a call whose response is let go. What begins calls waits for room then: errors pass the bounds of the
// queue, and there must not be more of them than calls at once.
func (s *connState) failUnread(id uint64) {
	b := getBytes(nil)
	*b = appendFailure(*b, id, errClientNotReading, s.limit)
	s.responseDropped.Store(true) // First: the call is not counted any more.
	_ = s.seam.SendControl(*b)    // If not, the connection has ended.
	putBytes(b)
}

// readPauseLocked returns what reading has to wait for: a client that leaves what it has asked for unread is asked for nothing
// more. nil is for no wait.
func (s *connState) readPauseLocked() <-chan struct{} {
	if s.waitingSends == 0 || s.closed || len(s.calls)+s.waitingSends < s.server.maxConnCalls && !s.server.memory.exhausted(&s.usedBytes) {
		return nil
	}
	if s.readResume == nil {
		s.readResume = make(chan struct{})
	}
	return s.readResume
}

// resumeLocked lets reading go on if it may.
func (s *connState) resumeLocked() {
	if s.readResume != nil && s.readPauseLocked() == nil {
		close(s.readResume)
		s.readResume = nil
	}
}

// send sends a message that the calls of a session wait for. If the queue is full, it waits for room, as long as the
// client may have as much waiting.
func (s *connState) send(body []byte) error {
	err := s.seam.TrySendEncoded(body)
	if err != udsipc.ErrBufferFull {
		return err
	}
	memory := &s.server.memory
	if !memory.tryReserve(&s.usedBytes, &memory.responses, len(body)) {
		return errClientNotReading
	}
	s.mu.Lock()
	s.waitingSends++
	s.mu.Unlock()
	s.server.active.Add(1)
	err = s.seam.SendEncoded(body)
	s.server.active.Add(-1)
	memory.release(&s.usedBytes, &memory.responses, len(body))
	s.mu.Lock()
	s.waitingSends--
	s.resumeLocked()
	s.mu.Unlock()
	return err
}

// errClientNotReading is why what a handler has returned or sent is let go.
var errClientNotReading = &Error{Code: CodeResourceExhausted, Message: "the handler has run, but the client leaves more unread than the server holds for it (SetMaxMemory)"}
