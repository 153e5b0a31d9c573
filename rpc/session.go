// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is how a Server takes what comes over one connection.

import (
	"context"
	"fmt"
	"sync"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
)

// A session is what a Server knows of a connection.
type session struct {
	mu        sync.Mutex // Guards what follows.
	calls     map[uint64]*call
	answering int       // Calls whose responses are being sent.
	answered  sync.Cond // One less, or the end.
	over      bool
}

func (s *Server) session(from *duplex.Session) *session {
	if known, ok := s.sessions.Load(from); ok {
		return known.(*session)
	}
	fresh := &session{calls: make(map[uint64]*call)}
	fresh.answered.L = &fresh.mu
	s.sessions.Store(from, fresh) // Messages of a session come one after the other.
	context.AfterFunc(from.Context(), func() {
		s.sessions.Delete(from)
		fresh.end()
	})
	context.AfterFunc(from.Incoming(), fresh.endStreams)
	return fresh
}

// endStreams tells the streams of a session that nothing more comes for them.
func (s *session) endStreams() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.stream != nil {
			c.stream.endInput()
		}
	}
}

// end cancels all calls of a session.
func (s *session) end() {
	s.mu.Lock()
	s.over = true
	s.answered.Broadcast()
	calls := make([]*call, 0, len(s.calls))
	for _, c := range s.calls {
		calls = append(calls, c)
	}
	s.mu.Unlock()
	for _, c := range calls {
		c.cancel(context.Canceled)
	}
}

// handle takes one message of a session.
func (s *Server) handle(_ context.Context, from *duplex.Session, m duplex.Message) error {
	switch m.Type {
	case typeRequest, typeOpen:
		return s.begin(from, m)
	case typeNotify:
		return s.notify(from, m.Data)
	}
	id, rest, err := parseID(m.Data)
	if err != nil {
		return err
	}
	session := s.session(from)
	session.mu.Lock()
	c := session.calls[id]
	session.mu.Unlock()
	if c == nil {
		return nil // It has ended, which the client did not know.
	}
	switch m.Type {
	case typeCancel:
		c.cancel(context.Canceled)
		return nil
	case typeData, typeCredit, typeEnd, typeError:
		if c.stream == nil {
			return fmt.Errorf("%w: type %d for a call that is no stream", errMalformed, m.Type)
		}
		return c.stream.take(m.Type, rest)
	}
	return fmt.Errorf("%w: type %d", errMalformed, m.Type)
}

// awaitReader waits while the client leaves too many responses unread.
func (s *session) awaitReader(limit int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.answering >= limit && !s.over {
		s.answered.Wait()
	}
}

// refuse tells the caller that its request is over the limit.
func (s *Server) refuse(from *duplex.Session, e *udsipc.TooLargeError) {
	r := reader{rest: e.Head}
	if kind := r.number(); r.bad || kind != typeRequest && kind != typeOpen && kind != typeData {
		return
	}
	id, _, err := parseID(r.rest)
	if err != nil {
		return
	}
	why := &Error{Code: CodeTooLarge, Message: fmt.Sprintf("a request of %d bytes, the limit is %d (udsipc.WithMaxMessageSize of the server)", e.Size, e.Limit)}
	session := s.session(from)
	session.mu.Lock()
	c := session.calls[id]
	session.mu.Unlock()
	if c != nil && c.stream != nil {
		c.stream.fail(why) // Its handler returns, and says so.
		return
	}
	_ = (&call{from: from, id: id}).fail(why) // If not, the connection has ended.
}

// begin starts a call or a stream.
func (s *Server) begin(from *duplex.Session, m duplex.Message) error {
	q, err := parseRequest(m.Data)
	if err != nil {
		return err
	}
	session := s.session(from)
	session.awaitReader(s.sessionCalls)
	c := &call{server: s, from: from, id: q.id, session: session, method: s.methods[string(q.method)]}
	if c.method == nil || m.Type == typeRequest && c.method.call == nil || m.Type == typeOpen && c.method.stream == nil {
		return c.fail(&Error{Code: CodeUnknownMethod, Message: fmt.Sprintf("%q", q.method)})
	}
	if m.Type == typeOpen {
		r := reader{rest: q.data}
		c.stream = newStream(c.id, c, from.SendBody, from.MaxMessageSize(), int(min(r.number(), maxWindow)))
	}
	c.size = int64(len(q.data))
	if full := c.register(); full != nil { // From here on it can be cancelled.
		return c.fail(full)
	}
	if q.timeout > 0 {
		c.expire(q.timeout)
	}
	if m.Type == typeRequest {
		c.request = getBytes(q.data)
	}
	if from.Context().Err() != nil {
		c.cancel(context.Canceled) // The session has ended without it.
	}
	if c.stream != nil && from.Incoming().Err() != nil {
		c.stream.endInput()
	}
	from.Hold()
	select {
	case s.work <- c:
	default:
		go s.serve(c) // Ends when there is nothing to do, or dismiss does it.
	}
	return nil
}

// notify runs the handler of a method whose caller wants no response, in the order of the messages.
func (s *Server) notify(from *duplex.Session, data []byte) error {
	name, data, err := parseNotification(data)
	if err != nil {
		return err
	}
	m := s.methods[string(name)]
	if m == nil || m.call == nil {
		return &Error{Code: CodeUnknownMethod, Message: fmt.Sprintf("%q", name)}
	}
	c := &call{server: s, from: from, method: m}
	stop := context.AfterFunc(from.Context(), func() { c.cancel(context.Canceled) })
	defer stop()
	defer c.cancel(context.Canceled)
	_, err = m.call(c, data)
	return err
}
