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

// A session is what a Server knows of a connection.
type session struct {
	server *Server
	from   *duplex.Session
	seam   seam.Session // Of from.
	limit  uint64       // Of a message.
	held   atomic.Int64 // Bytes of the server's memory.
	unread atomic.Bool  // A response was let go since reading was held last.

	mu       sync.Mutex // Guards what follows.
	calls    map[uint64]*call
	waiting  int           // Messages that end a call and wait for room; their calls are still counted.
	resume   chan struct{} // Closed when fewer wait, or at the end; nil while reading is not held for that.
	asked    string        // What the client was told goodbye with; empty if it was not.
	answered bool          // It begins nothing more.
	over     bool
}

func (s *Server) session(from *duplex.Session) *session {
	if known, ok := s.sessions.Load(from); ok {
		return known.(*session)
	}
	fresh := &session{server: s, from: from, seam: seam.OfSession(from), calls: make(map[uint64]*call)}
	fresh.limit = fresh.seam.MaxMessageSize()
	if known, ok := s.sessions.LoadOrStore(from, fresh); ok {
		return known.(*session) // Of the Stop that comes at the same time.
	}
	s.memory.sessions.Add(1)
	context.AfterFunc(from.Context(), func() {
		s.sessions.Delete(from)
		s.memory.sessions.Add(-1)
		fresh.end()
	})
	context.AfterFunc(fresh.seam.ReceiveContext(), func() { fresh.endStreams(true) })
	return fresh
}

// endStreams tells the streams of a session that no messages come for them any more; nor does credit, if the client is deaf.
func (s *session) endStreams(deaf bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.stream != nil {
			c.stream.endInput(deaf)
		}
	}
}

// end cancels all calls of a session.
func (s *session) end() {
	s.mu.Lock()
	s.over = true
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
func (s *session) find(id uint64) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[id]
}

// sayGoodbye tells the client of a session that the server stops.
func (s *Server) sayGoodbye(from *duplex.Session) {
	session, token := s.session(from), rand.Text()[:maxToken]
	session.mu.Lock()
	session.asked = token
	session.mu.Unlock()
	// If it is not sent, the connection has ended.
	_ = sendWith(session.seam.SendControl, typeGoodbye, func(b []byte) []byte { return append(b, token...) })
}

// hearGoodbye takes the client's answer: it begins nothing more, and sends no more messages of streams.
func (s *session) hearGoodbye(token []byte) {
	s.mu.Lock()
	asked := s.asked != "" && s.asked == string(token)
	s.answered = s.answered || asked
	s.mu.Unlock()
	if !asked {
		return // It answers an earlier connection.
	}
	s.endStreams(false)
	s.seam.Finish()
}

// refuse ends a call with an error, in the goroutine that reads. That never waits for the client: if its queue is full,
// nothing more is read of it until there is room.
func (s *session) refuse(id uint64, why *Error) {
	b := getBytes(nil)
	*b = appendFailure(*b, id, why, s.limit)
	_ = s.seam.SendControl(*b) // If not, the connection has ended.
	putBytes(b)
	if room := s.seam.Room(); room != nil {
		s.seam.PauseReading(room)
	}
}

// refuseUnread ends a call whose response is let go. What begins calls waits for room then: errors pass the bounds of the
// queue, and there must not be more of them than calls at once.
func (s *session) refuseUnread(id uint64) {
	b := getBytes(nil)
	*b = appendFailure(*b, id, errUnread, s.limit)
	s.unread.Store(true)       // First: the call is not counted any more.
	_ = s.seam.SendControl(*b) // If not, the connection has ended.
	putBytes(b)
}

// pauseLocked returns what reading has to wait for: a client that leaves what it has asked for unread is asked for nothing
// more. nil is for no wait.
func (s *session) pauseLocked() <-chan struct{} {
	if s.waiting == 0 || s.over || len(s.calls)+s.waiting < s.server.sessionCalls && !s.server.memory.full(&s.held) {
		return nil
	}
	if s.resume == nil {
		s.resume = make(chan struct{})
	}
	return s.resume
}

// resumeLocked lets reading go on if it may.
func (s *session) resumeLocked() {
	if s.resume != nil && s.pauseLocked() == nil {
		close(s.resume)
		s.resume = nil
	}
}

// send sends a message that the calls of a session wait for. If the queue is full, it waits for room, as long as the
// client may have as much waiting.
func (s *session) send(body []byte) error {
	err := s.seam.TrySendEncoded(body)
	if err != udsipc.ErrBufferFull {
		return err
	}
	memory := &s.server.memory
	if !memory.take(&s.held, &memory.responses, len(body)) {
		return errUnread
	}
	s.mu.Lock()
	s.waiting++
	s.mu.Unlock()
	s.server.running.Add(1)
	err = s.seam.SendEncoded(body)
	s.server.running.Add(-1)
	memory.give(&s.held, &memory.responses, len(body))
	s.mu.Lock()
	s.waiting--
	s.resumeLocked()
	s.mu.Unlock()
	return err
}

// errUnread is why what a handler has returned or sent is let go.
var errUnread = &Error{Code: CodeTooManyCalls, Message: "the handler has run, but the client leaves more unread than the server holds for it (LimitMemory)"}
