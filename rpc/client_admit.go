// SPDX-License-Identifier: Apache-2.0

package rpc

// This file has what a call does while there is no connection: it waits, or fails fast.

import (
	"context"
	"errors"
	"fmt"

	"github.com/udsipc/udsipc"
)

// SetFailFast has calls and streams fail while the client is disconnected, instead of waiting. The
// error has CodeUnavailable, and matches udsipc.ErrNotConnected and the reason: the error of the last
// attempt to connect (udsipc.ErrNoConsumer, udsipc.ErrUnauthorized, …), or udsipc.ErrNotStarted.
//
// Only a call that comes while the first attempt since Start, or since the last connection, is under
// way waits for its outcome; udsipc.WithDialTimeout and WithHandshakeTimeout limit that. A call in
// flight fails with CodeConnectionLost when the connection is lost, also if it was not sent yet.
// Notifications are queued as without SetFailFast. It applies to later calls, and may be called at any
// time.
func (c *Client) SetFailFast() { c.failFast.Store(true) }

// failFastKey is the key of WithFailFast.
type failFastKey struct{}

// WithFailFast returns a context whose calls and streams fail while the client is disconnected, as
// with Client.SetFailFast.
func WithFailFast(ctx context.Context) context.Context {
	return context.WithValue(ctx, failFastKey{}, true)
}

// failsFast reports whether a call with ctx does not wait for a connection.
func (c *Client) failsFast(ctx context.Context) bool {
	return c.failFast.Load() || ctx.Value(failFastKey{}) != nil
}

// admit waits for a connection, then registers a call.
func (c *Client) admit(p *pendingCall, method string) (id uint64, err error) {
	for {
		p.disconnects = c.disconnects.Load() // First: what comes after it, register notices.
		if err := c.waitConnected(p.ctx); err != nil {
			return 0, notConnected(p.ctx, err, method)
		}
		id, next, err := c.register(p)
		switch {
		case err == errDisconnected:
			continue
		case next == nil:
			return id, err
		}
		if c.failsFast(p.ctx) {
			return 0, notConnected(p.ctx, errServerStops, method)
		}
		select {
		case <-next:
		case <-p.ctx.Done():
			return 0, notConnected(p.ctx, errServerStops, method)
		}
	}
}

// errDisconnected is the result of register if the connection was lost since admit has looked for one.
var errDisconnected = errors.New("disconnected")

var errServerStops = fmt.Errorf("%w: the server stops", udsipc.ErrNotConnected)

// waitConnected waits for a connection, if the call may wait.
func (c *Client) waitConnected(ctx context.Context) error {
	if c.duplex.State() == udsipc.StateConnected {
		return nil
	}
	if c.failsFast(ctx) {
		return c.link.WaitAttempt(ctx)
	}
	return c.duplex.WaitConnected(ctx)
}

// notConnected returns the error of a call that could not be sent, because of err.
func notConnected(ctx context.Context, err error, method string) error {
	if err == udsipc.ErrStopped {
		return asError(err)
	}
	e := &Error{Code: CodeUnavailable, Message: method + ": " + err.Error(), cause: unreachable{err}}
	if ended := ctx.Err(); ended != nil {
		e.Code = CodeOf(ended)
	}
	return e
}

// waitContext returns the context in which the request of a call waits for space in the queue. It ends if
// the call fails fast meanwhile.
func (c *Client) waitContext(p *pendingCall) (ctx context.Context, stop func()) {
	if udsipc.OverflowPolicy(c.link.Overflow()) != udsipc.OverflowBlock || !c.failsFast(p.ctx) {
		return p.ctx, func() {}
	}
	ctx, stop = context.WithCancel(p.ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if p.stopWait = stop; p.abandoned {
		stop()
	}
	return ctx, stop
}

// unsent returns the error of a call whose request the queue has refused with err.
func unsent(ctx context.Context, err error, method string) error {
	if ended := ctx.Err(); ended != nil && errors.Is(err, udsipc.ErrBufferFull) { // It has waited for space.
		return &Error{Code: CodeOf(ended), Message: method + ": " + err.Error(), cause: unreachable{err}}
	}
	return asError(err)
}

// unreachable is why a request was not sent: there is no connection, or no space in the queue. It
// matches what its error does, but no error that stands for a code: a socket that does not exist is no
// os.ErrNotExist of a handler.
type unreachable struct{ err error }

func (u unreachable) Error() string { return u.err.Error() }

// Is reports whether the error matches target. The cause of a context may be an Error of another call.
func (u unreachable) Is(target error) bool {
	if _, coded := target.(*Error); coded {
		return false
	}
	for _, p := range codeErrors {
		if p.both && target == p.err {
			return false
		}
	}
	return errors.Is(u.err, target)
}

// As finds an error of the type of target.
func (u unreachable) As(target any) bool { return errors.As(u.err, target) }
