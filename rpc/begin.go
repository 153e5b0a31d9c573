// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is how a Server takes what comes over a connection.

import (
	"context"
	"fmt"
	"runtime"

	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/seam"
)

// handle takes one message of a session.
func (s *Server) handle(_ context.Context, from *duplex.ServerConn, m duplex.Message) error {
	switch m.Type {
	case typeRequest, typeOpen:
		return s.startCall(from, m)
	case typeNotify:
		return s.notify(from, m.Data)
	case typeGoodbye:
		s.connStateOf(from).onGoodbye(m.Data)
		return nil
	}
	id, rest, err := parseID(m.Data)
	if err != nil {
		return err
	}
	session := s.connStateOf(from)
	c := session.find(id)
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
		why, err := c.stream.onMessage(m.Type, rest)
		if why != nil {
			session.failCall(id, why)
		}
		return err
	}
	return fmt.Errorf("%w: type %d", errMalformed, m.Type)
}

// onTooLarge tells the caller that its request is over the limit.
func (s *Server) onTooLarge(from *duplex.ServerConn, e *seam.TooLarge) {
	r := fieldReader{rest: e.Head}
	if kind := r.number(); r.bad || kind != typeRequest && kind != typeOpen && kind != typeData {
		return
	}
	id, _, err := parseID(r.rest)
	if err != nil {
		return
	}
	why := &Error{Code: CodeTooLarge, Message: fmt.Sprintf("a request of %d bytes, the limit is %d (udsipc.WithMaxMessageSize of the server)", e.Size, e.Limit)}
	session := s.connStateOf(from)
	if c := session.find(id); c != nil && c.stream != nil {
		c.stream.failTold(why)
	}
	session.failCall(id, why)
}

// startCall starts a call or a stream.
func (s *Server) startCall(from *duplex.ServerConn, m duplex.Message) error {
	q, err := parseRequest(m.Data)
	if err != nil {
		return err
	}
	session := s.connStateOf(from)
	c := &call{server: s, conn: from, id: q.id, connState: session, method: s.methods[string(q.method)]}
	if c.method == nil || m.Type == typeRequest && c.method.call == nil || m.Type == typeOpen && c.method.stream == nil {
		session.failCall(c.id, unknownMethod(q.method))
		return nil
	}
	if m.Type == typeOpen {
		r := fieldReader{rest: q.data}
		c.stream = newStream(c.id, c, output{session.send, session.send, session.seam.SendControl}, session.limit, int(min(r.number(), maxWindow)))
		c.stream.onFail = func(error) { c.endContext(context.Canceled) }
		c.stream.connState = session
	}
	c.size = len(q.data)
	pause, full := c.register() // From here on it can be cancelled.
	if full != nil {
		session.failCall(c.id, full)
		return nil
	}
	if pause == nil && session.responseDropped.Swap(false) {
		pause = session.seam.Room()
	}
	if pause != nil {
		session.seam.PauseReading(pause)
	}
	if q.timeout > 0 {
		c.setTimeout(q.timeout)
	}
	if m.Type == typeRequest {
		c.request = getBytes(q.data)
	}
	if from.Context().Err() != nil {
		c.cancel(context.Canceled) // The session has ended without it.
	}
	if c.stream != nil && session.seam.ReceiveContext().Err() != nil {
		c.stream.endInput(true)
	}
	session.seam.Hold()
	select {
	case s.work <- c:
	default:
		go s.serve(c) // Ends when there is nothing to do, or dismiss does it.
		if s.active.Load() > yieldThreshold {
			runtime.Gosched()
		}
	}
	return nil
}

// yieldThreshold is from how many calls under way on the goroutine that reads lets others run before it begins the next: a client
// that sends requests by the thousand, and leaves large responses unread, is to be noticed before all of their handlers run.
const yieldThreshold = 64

// notify runs the handler of a method whose caller wants no response, in the order of the messages.
func (s *Server) notify(from *duplex.ServerConn, data []byte) error {
	name, data, err := parseNotification(data)
	if err != nil {
		return err
	}
	m := s.methods[string(name)]
	if m == nil || m.call == nil {
		return unknownMethod(name)
	}
	c := &call{server: s, conn: from, method: m}
	stop := context.AfterFunc(from.Context(), func() { c.cancel(context.Canceled) })
	defer stop()
	defer c.cancel(context.Canceled)
	_, err = m.call(c, data)
	return err
}

// maxQuotedName is how much of a name is repeated in an error.
const maxQuotedName = 100

// unknownMethod is the error for a method without a handler.
func unknownMethod(name []byte) *Error {
	if len(name) > maxQuotedName {
		return &Error{Code: CodeUnknownMethod, Message: fmt.Sprintf("%q… (%d bytes)", name[:maxQuotedName], len(name))}
	}
	return &Error{Code: CodeUnknownMethod, Message: fmt.Sprintf("%q", name)}
}
