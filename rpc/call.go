// SPDX-License-Identifier: Apache-2.0

package rpc

// This file has the server's side of one call: its life cycle and its handler's context.

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

// A call is a call in flight, and the context of its handler.
type call struct {
	connState *connState
	id        uint64
	method    *method
	stream    *Stream
	request   *[]byte
	metadata  Metadata
	size      int // Bytes of the request and of its metadata in memory.

	deadline time.Duration // Since Server.startTime; 0 without a deadline.
	timer    *time.Timer

	mu      sync.Mutex // Guards the fields below.
	done    chan struct{}
	over    bool // The context has ended,
	expired bool // because of the deadline.
}

// register adds the call to its connection, or returns why not. pause is a channel that reading
// must wait for, or nil.
func (c *call) register() (pause <-chan struct{}, full *Error) {
	s := c.connState
	s.mu.Lock()
	defer s.mu.Unlock()
	own := len(s.calls) + s.waitingSends
	switch {
	case s.clientDone:
		return nil, &Error{
			Code:    CodeUnavailable,
			Message: "the server stops, and the client had said that it begins nothing more",
		}
	case s.calls[c.id] != nil:
		return nil, &Error{Code: CodeInvalidArgument, Message: fmt.Sprintf("call %d is under way already", c.id)}
	case own >= c.connState.server.maxConnCalls:
		return nil, &Error{
			Code: CodeResourceExhausted,
			Message: fmt.Sprintf("%d calls of this connection are in flight, its limit: "+
				"call again after one has ended, or raise the limit (Server.SetMaxConcurrentCalls)", own),
		}
	case !c.connState.server.admit(own):
		return nil, &Error{
			Code: CodeResourceExhausted,
			Message: fmt.Sprintf("%d calls of all clients are in flight, the server's limit: "+
				"call again later, or raise the limit (Server.SetMaxConcurrentCalls)", c.connState.server.maxCalls),
		}
	}
	memory := &c.connState.server.memory
	if !memory.tryReserve(&s.usedBytes, &memory.requests, c.size) {
		c.connState.server.active.Add(-1)
		return nil, &Error{Code: CodeResourceExhausted, Message: fmt.Sprintf(
			"the server holds %d bytes for its clients, %d of them for this connection: "+
				"call again after one has ended, or raise the limit (Server.SetMaxMemory)",
			memory.used.Load(), s.usedBytes.Load())}
	}
	s.calls[c.id] = c
	return s.readPauseLocked(), nil
}

// errGoexit is the error of a handler that ended its goroutine.
var errGoexit = &Error{Code: CodePanic, Message: "the handler called runtime.Goexit"}

// run calls the handler and sends its response.
func (c *call) run() {
	var response []byte
	err := errGoexit
	defer func() { c.finish(response, err) }()
	response, err = c.invoke()
}

// finish sends the handler's response or error, and unregisters the call.
func (c *call) finish(response []byte, err *Error) {
	defer c.connState.seam.Release()
	if c.timer != nil {
		c.timer.Stop()
	}
	last := getBytes(nil)
	defer putBytes(last)
	limit := c.connState.limit
	ended := false // The client knows that the stream has ended.
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
			*last = appendFailure(*last, c.id, &Error{
				Code: CodeTooLarge, Message: fmt.Sprintf("a response of %d bytes (udsipc.WithMaxMessageSize)", len(response)),
			}, limit)
		}
	}
	c.unregister() // First: the client may call again as soon as it has the response.
	if !ended && c.connState.send(*last) == errClientNotReading {
		c.connState.failUnread(c.id)
	} // Any other error means that the connection has ended, and the call with it.
	c.cancel(context.Canceled) // Ends what the handler has started with its context.
}

// unregister removes the call from its connection and releases its memory.
func (c *call) unregister() {
	s := c.connState
	s.mu.Lock()
	delete(s.calls, c.id)
	s.mu.Unlock()
	c.connState.server.active.Add(-1)
	c.connState.server.memory.release(&s.usedBytes, &c.connState.server.memory.requests, c.size)
	if c.request != nil {
		putBytes(c.request)
		c.request = nil
	}
}

func (c *call) invoke() (response []byte, failed *Error) {
	defer func() {
		if value := recover(); value != nil {
			c.connState.server.seam.Report(udsipc.OpHandle, c.connState.conn.Peer().String(), fmt.Errorf(
				"%w: %s: panic: %v\n%s", udsipc.ErrHandlerFailed, c.method.name, value,
				debug.Stack()))
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
		// The handler returned because its context ended; its own error does not matter.
		err = cause
	}
	return nil, asError(err)
}

// setTimeout sets the deadline of the call.
func (c *call) setTimeout(timeout time.Duration) {
	c.deadline = time.Since(c.connState.server.startTime) + timeout
	c.timer = time.AfterFunc(timeout, func() { c.cancel(context.DeadlineExceeded) })
}

// cancel ends the context, and the stream if there is one.
func (c *call) cancel(cause error) {
	c.endContext(cause)
	if c.stream != nil {
		c.stream.fail(cause)
	}
}

// endContext ends the context, as context.DeadlineExceeded or context.Canceled. Later calls have no effect.
func (c *call) endContext(cause error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.over {
		c.over, c.expired = true, cause == context.DeadlineExceeded
		if c.done != nil {
			close(c.done)
		}
	}
}

// Deadline returns the deadline of the caller's context.
func (c *call) Deadline() (deadline time.Time, ok bool) {
	if c.deadline == 0 {
		return time.Time{}, false
	}
	return c.connState.server.startTime.Add(c.deadline), true
}

// Done returns a channel that is closed when the call ends. The first call creates it.
func (c *call) Done() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.done == nil {
		c.done = make(chan struct{})
		if c.over {
			close(c.done)
		}
	}
	return c.done
}

// Err returns the reason why the context has ended, or nil.
func (c *call) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.expired:
		return context.DeadlineExceeded
	case c.over:
		return context.Canceled
	}
	return nil
}

// callKey is the key of the call in its handler's context.
type callKey struct{}

// Value returns the call for callKey, else the value of the connection's context.
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.connState.conn.Context().Value(key)
}

// A CallInfo describes a call to its handler.
type CallInfo struct {
	Method string
	ID     uint64             // The client's number of the call; 0 for a notification.
	Conn   *duplex.ServerConn // The connection of the caller.

	Metadata Metadata // Of the caller (WithMetadata); nil without any. It is not passed on to calls of the handler.
}

// CallFromContext returns the call of a handler's context, and false for any other context.
func CallFromContext(ctx context.Context) (CallInfo, bool) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return CallInfo{}, false
	}
	return CallInfo{Method: c.method.name, ID: c.id, Conn: c.connState.conn, Metadata: c.metadata}, true
}

// PeerFromContext returns the identity of the caller from a handler's context, and false for any
// other context.
func PeerFromContext(ctx context.Context) (udsipc.Peer, bool) {
	c, ok := ctx.Value(callKey{}).(*call)
	if !ok {
		return udsipc.Peer{}, false
	}
	return c.connState.conn.Peer(), true
}
