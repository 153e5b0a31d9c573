// SPDX-License-Identifier: Apache-2.0

package rpc

// This file is one call at its server: its life, and the context of its handler.

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
)

// A call is one that is under way, and the context of its handler.
type call struct {
	server    *Server
	conn      *duplex.ServerConn
	connState *connState
	id        uint64
	method    *method
	stream    *Stream
	request   *[]byte
	size      int // Of the request.

	deadline time.Time // Zero: none.
	timer    *time.Timer

	mu    sync.Mutex // Guards what follows.
	done  chan struct{}
	cause error
}

// register makes the call one of its session's, if there is room. pause is what reading has to wait for, or nil.
func (c *call) register() (pause <-chan struct{}, full *Error) {
	s := c.connState
	s.mu.Lock()
	defer s.mu.Unlock()
	own := len(s.calls) + s.waitingSends
	switch {
	case s.clientDone:
		return nil, &Error{Code: CodeUnavailable, Message: "the server stops, and the client had said that it begins nothing more"}
	case s.calls[c.id] != nil:
		return nil, &Error{Code: CodeInvalidArgument, Message: fmt.Sprintf("call %d is under way already", c.id)}
	case own >= c.server.maxConnCalls:
		return nil, &Error{Code: CodeResourceExhausted, Message: fmt.Sprintf("%d are under way on this connection (SetMaxConcurrentCalls)", own)}
	case !c.server.admit(own):
		return nil, &Error{Code: CodeResourceExhausted, Message: fmt.Sprintf("%d are under way (SetMaxConcurrentCalls)", c.server.maxCalls)}
	}
	memory := &c.server.memory
	if !memory.tryReserve(&s.usedBytes, &memory.requests, c.size) {
		c.server.active.Add(-1)
		return nil, &Error{Code: CodeResourceExhausted, Message: fmt.Sprintf("the server holds %d bytes for its clients, %d of them for this connection (SetMaxMemory)", memory.used.Load(), s.usedBytes.Load())}
	}
	s.calls[c.id] = c
	return s.readPauseLocked(), nil
}

// errGoexit is what became of a handler that ended its goroutine.
var errGoexit = &Error{Code: CodePanic, Message: "the handler called runtime.Goexit"}

// run calls the handler and sends what it returns.
func (c *call) run() {
	var response []byte
	err := errGoexit
	defer func() { c.finish(response, err) }()
	response, err = c.invoke()
}

// finish sends what the handler has returned.
func (c *call) finish(response []byte, err *Error) {
	defer c.connState.seam.Release()
	if c.timer != nil {
		c.timer.Stop()
	}
	last := getBytes(nil)
	defer putBytes(last)
	limit := c.connState.limit
	ended := false // The client knows.
	if c.stream != nil {
		ended, err = c.stream.finish(err)
	}
	switch {
	case ended:
	case err != nil:
		*last = appendFailure(*last, c.id, err, limit)
	case c.stream != nil:
		*last = append(appendID(appendType(*last, typeEnd), c.id), endOfHandler)
	default:
		*last = append(appendID(appendType(*last, typeResponse), c.id), response...)
		if uint64(len(*last)) > limit {
			*last = appendFailure(*last, c.id, &Error{Code: CodeTooLarge, Message: fmt.Sprintf("a response of %d bytes", len(response))}, limit)
		}
	}
	c.unregister() // First: the client may call again as soon as it has the response.
	if !ended && c.connState.send(*last) == errClientNotReading {
		c.connState.failUnread(c.id)
	} // Any other error means that the connection has ended, and the call with it.
	c.cancel(context.Canceled) // What the handler left behind.
}

// unregister gives back what the call has of its session and of the server.
func (c *call) unregister() {
	s := c.connState
	s.mu.Lock()
	delete(s.calls, c.id)
	s.mu.Unlock()
	c.server.active.Add(-1)
	c.server.memory.release(&s.usedBytes, &c.server.memory.requests, c.size)
	if c.request != nil {
		putBytes(c.request)
		c.request = nil
	}
}

func (c *call) invoke() (response []byte, failed *Error) {
	defer func() {
		if value := recover(); value != nil {
			c.server.seam.Report(udsipc.OpHandle, c.conn.Peer().String(), fmt.Errorf("%w: %s: panic: %v\n%s", udsipc.ErrHandlerFailed, c.method.name, value, debug.Stack()))
			failed = &Error{Code: CodePanic, Message: fmt.Sprint(value)}
		}
	}()
	var err error
	if c.stream != nil {
		err = c.method.stream(c, c.stream)
	} else {
		response, err = c.method.call(c, *c.request)
	}
	if err == nil {
		return response, nil
	}
	if cause := c.Err(); cause != nil && !errors.As(err, new(*Error)) {
		err = cause // The handler returned because its context ended, whatever it says.
	}
	return nil, asError(err)
}

// setTimeout ends the call after a time.
func (c *call) setTimeout(timeout time.Duration) {
	c.deadline = time.Now().Add(timeout)
	c.timer = time.AfterFunc(timeout, func() { c.cancel(context.DeadlineExceeded) })
}

// cancel ends the context, and the stream.
func (c *call) cancel(cause error) {
	c.endContext(cause)
	if c.stream != nil {
		c.stream.fail(cause)
	}
}

// endContext ends the context.
func (c *call) endContext(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause == nil {
		c.cause = cause
		if c.done != nil {
			close(c.done)
		}
	}
}

// Deadline is that of the caller's context.
func (c *call) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

// Done returns a channel that is closed when the call ends. It is made when it is first asked for.
func (c *call) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.cause != nil {
			close(c.done)
		}
	}
	return c.done
}

// Err returns why the context has ended.
func (c *call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

// callKey is what a handler's context has the call under.
type callKey struct{}

// Value returns the call, or what the context of the session has.
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.conn.Context().Value(key)
}

// CallInfo is what a handler can know of its call.
type CallInfo struct {
	Method string
	ID     uint64             // The caller's number of it; 0 for a notification.
	Conn   *duplex.ServerConn // Which connection it came on.
}

// CallFromContext returns the call of a handler's context; false for any other context.
func CallFromContext(ctx context.Context) (CallInfo, bool) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return CallInfo{}, false
	}
	return CallInfo{Method: c.method.name, ID: c.id, Conn: c.conn}, true
}

// PeerFromContext returns the caller of a handler's context; false for any other context.
func PeerFromContext(ctx context.Context) (udsipc.Peer, bool) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return udsipc.Peer{}, false
	}
	return c.conn.Peer(), true
}
