// SPDX-License-Identifier: Apache-2.0

package rpc

// This file handles the messages that a Server receives.

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"unicode/utf8"

	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/seam"
)

// handle handles one message of a connection. A malformed one ends the connection if no message
// before it had meaning: the peer is no Client.
func (s *Server) handle(_ context.Context, from *duplex.ServerConn, m duplex.Message) error {
	err := s.handleMessage(from, m)
	if err != nil && errors.Is(err, errMalformed) && !s.connStateOf(from).isClient {
		return fmt.Errorf("%w: the peer is no client of package rpc: %w", duplex.ErrInvalidMessage, err)
	}
	return err
}

func (s *Server) handleMessage(from *duplex.ServerConn, m duplex.Message) error {
	switch m.Type {
	case typeRequest, typeOpen:
		return s.startCall(from, m)
	case typeNotify:
		return s.notify(from, m.Data)
	case typeGoodbye:
		if len(m.Data) > maxToken {
			return fmt.Errorf("%w: a goodbye of %d bytes", errMalformed, len(m.Data))
		}
		if !s.connStateOf(from).onGoodbye(m.Data) {
			return fmt.Errorf("%w: another goodbye that this server has not asked for", errMalformed)
		}
		return nil
	}
	id, rest, err := parseID(m.Data)
	if err != nil {
		return err
	}
	state := s.connStateOf(from)
	c := state.find(id)
	if c == nil { // It has ended; the client did not know that yet.
		if !state.isClient && !isAboutCall(m.Type, rest) {
			return fmt.Errorf("%w: type %d", errMalformed, m.Type)
		}
		return nil
	}
	switch m.Type {
	case typeCancel:
		c.cancel(context.Canceled)
		return nil
	case typeData, typeCredit, typeEnd, typeError:
		if c.stream == nil {
			return fmt.Errorf("%w: type %d for a call that is no stream", errMalformed, m.Type)
		}
		cause, err := c.stream.onMessage(m.Type, rest, state.keepMessage)
		if cause != nil {
			state.failCall(id, cause)
		}
		return err
	}
	return fmt.Errorf("%w: type %d", errMalformed, m.Type)
}

// isAboutCall reports whether a message of a client about an earlier call may have this type and,
// after the number of the call, these bytes.
func isAboutCall(kind uint32, rest []byte) bool {
	r := fieldReader{rest: rest}
	switch kind {
	case typeCancel:
		return len(rest) == 0
	case typeCredit, typeEnd:
		if len(rest) > 0 || kind == typeCredit {
			r.number()
		}
		return !r.bad && len(r.rest) == 0
	case typeError:
		r.number()
		return !r.bad && utf8.Valid(r.rest)
	case typeData:
		for len(r.rest) > 0 && !r.bad {
			r.text()
		}
		return !r.bad
	}
	return false
}

// onTooLarge fails the call whose request is over the limit.
func (s *Server) onTooLarge(from *duplex.ServerConn, e *seam.TooLarge) {
	r := fieldReader{rest: e.Head}
	if kind := r.number(); r.bad || kind != typeRequest && kind != typeOpen && kind != typeData {
		return
	}
	id, _, err := parseID(r.rest)
	if err != nil {
		return
	}
	cause := &Error{Code: CodeTooLarge, Message: fmt.Sprintf(
		"a request of %d bytes, the limit is %d (udsipc.WithMaxMessageSize of the server)", e.Size,
		e.Limit)}
	state := s.connStateOf(from)
	if c := state.find(id); c != nil && c.stream != nil {
		c.stream.failReported(cause)
	}
	state.failCall(id, cause)
}

// startCall starts a call or a stream.
func (s *Server) startCall(from *duplex.ServerConn, m duplex.Message) error {
	q, err := parseRequest(m.Data)
	if err != nil {
		return err
	}
	state := s.connStateOf(from)
	if !state.isClient { // It is written once: other goroutines use the fields beside it.
		state.isClient = true
	}
	c := &call{id: q.id, connState: state, method: s.methods[string(q.method)]}
	metadata, bad := parseMetadata(q.metadata)
	if bad != nil {
		state.failCall(c.id, bad)
		return nil
	}
	c.metadata = metadata
	if c.method == nil || m.Type == typeRequest && c.method.call == nil || m.Type == typeOpen && c.method.stream == nil {
		state.failCall(c.id, unknownMethod(q.method))
		return nil
	}
	request := q.data
	if m.Type == typeOpen {
		r := fieldReader{rest: q.data}
		c.stream = newStream(c.id, c, state.output,
			state.limit, int(min(r.number(), maxWindow)))
		c.stream.onFail = func(error) { c.endContext(context.Canceled) }
		c.stream.connState = state
		request = r.rest
	}
	c.size = len(q.data) + len(q.metadata) + metadataCost*len(metadata)
	pause, full := c.register() // From here on the call can be cancelled.
	if full != nil {
		state.failCall(c.id, full)
		return nil
	}
	if pause == nil && state.responseDropped.Swap(false) {
		pause = state.seam.Room()
	}
	if pause != nil {
		state.seam.PauseReading(pause)
	}
	if q.timeout > 0 {
		c.setTimeout(q.timeout)
	}
	if c.request = getBytes(request); c.stream != nil {
		c.stream.request = *c.request
	}
	if from.Context().Err() != nil {
		c.cancel(context.Canceled) // The connection ended before the call was registered.
	}
	if c.stream != nil && state.seam.ReceiveContext().Err() != nil {
		c.stream.endInput(true)
	}
	state.seam.Hold()
	s.dispatch(c)
	return nil
}

// dispatch has a worker serve a call.
func (s *Server) dispatch(c *call) {
	select {
	case s.work <- c:
	default:
		go s.serve(c) // Ends when too many workers are idle, or in stopWorkers.
		if s.active.Load() > yieldThreshold {
			runtime.Gosched()
		}
	}
}

// yieldThreshold is the number of active calls above which the reading goroutine yields before the
// next one. A client may send requests by the thousand and leave large responses unread. This is
// noticed only if some handlers run before all requests are read.
const yieldThreshold = 64

// notify runs the handler of a notification, in the reading goroutine: notifications are handled in
// order.
func (s *Server) notify(from *duplex.ServerConn, data []byte) error {
	name, data, err := parseNotification(data)
	if err != nil {
		return err
	}
	name, encoded := splitMethod(name)
	metadata, bad := parseMetadata(encoded)
	if bad != nil {
		return bad
	}
	m := s.methods[string(name)]
	if m == nil || m.call == nil {
		return unknownMethod(name)
	}
	c := &call{connState: s.connStateOf(from), method: m, metadata: metadata}
	if !c.connState.isClient {
		c.connState.isClient = true
	}
	stop := context.AfterFunc(from.Context(), func() { c.cancel(context.Canceled) })
	defer stop()
	defer c.cancel(context.Canceled)
	_, err = m.call(c, data)
	return err
}

// maxQuotedName is the number of bytes of a name that an error quotes.
const maxQuotedName = 100

// unknownMethod returns the error for a method without a handler.
func unknownMethod(name []byte) *Error {
	if len(name) > maxQuotedName {
		return &Error{Code: CodeUnknownMethod, Message: fmt.Sprintf("%q… (%d bytes)", name[:maxQuotedName], len(name))}
	}
	return &Error{Code: CodeUnknownMethod, Message: fmt.Sprintf("%q", name)}
}
