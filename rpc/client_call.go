// SPDX-License-Identifier: Apache-2.0

package rpc

// This file makes the calls and notifications of a Client.

import (
	"context"
	"time"
)

// Call calls a method and returns its response, which belongs to the caller; then request may be
// reused. ctx limits the call; its cancellation and its deadline reach the handler. While the client
// is disconnected, the call waits (SetFailFast); if ctx ends meanwhile, the error matches
// udsipc.ErrNotConnected and the reason as well. The error is an *Error, or that of an interceptor (Use).
func (c *Client) Call(ctx context.Context, method string, request []byte) (response []byte, err error) {
	return c.call(ctx, method, request, false)
}

// CallIdempotent is Call for an idempotent method: after a disconnect it is sent again, up to three
// times, instead of failing with CodeConnectionLost.
func (c *Client) CallIdempotent(ctx context.Context, method string, request []byte) (response []byte, err error) {
	return c.call(ctx, method, request, true)
}

func (c *Client) call(ctx context.Context, method string, data []byte, idempotent bool) ([]byte, error) {
	switch {
	case idempotent && c.idempotent != nil:
		return c.idempotent(ctx, method, data)
	case !idempotent && c.plain != nil:
		return c.plain(ctx, method, data)
	}
	return c.invoke(ctx, method, data, idempotent)
}

// invoke is call without interceptors.
func (c *Client) invoke(ctx context.Context, method string, data []byte, idempotent bool) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, asError(err)
	}
	metadata, err := checkCall(ctx, method)
	if err != nil {
		return nil, err
	}
	p := pendingPool.Get().(*pendingCall)
	defer func() {
		p.ctx = nil // The pool must not keep it.
		pendingPool.Put(p)
	}()
	for losses := 0; ; losses++ {
		*p = pendingCall{done: p.done, ctx: ctx, idempotent: idempotent && losses < maxRetries}
		id, err := c.admit(p, method)
		if err != nil {
			return nil, err
		}
		q := request{id: id, timeout: timeoutOf(ctx)}
		if err := c.sendRequest(p, &q, typeRequest, method, metadata, data); err != nil {
			if c.removeCall(id) {
				return nil, unsent(ctx, err, method)
			}
			<-p.done // A disconnect completed the call first.
		} else if canceled := p.wait(ctx); canceled && c.removeCall(id) {
			c.sendCancel(id)
			return nil, c.noResponse(ctx, method)
		} else if canceled {
			<-p.done // The response came at the same time.
		}
		switch {
		case p.retry:
			continue
		case p.err != nil:
			return nil, p.err
		}
		return p.response, nil
	}
}

// maxRetries is the number of times an idempotent call is sent again. It is limited because the
// call itself may cause the disconnect.
const maxRetries = 3

// noResponse returns the error of a call whose context has ended. Without a connection it says why.
func (c *Client) noResponse(ctx context.Context, method string) error {
	if why := c.link.Why(); why != nil {
		return notConnected(ctx, why, method)
	}
	return &Error{Code: CodeOf(ctx.Err()), Message: method}
}

// wait waits for the response. It reports whether ctx ended first.
func (p *pendingCall) wait(ctx context.Context) (canceled bool) {
	done := ctx.Done()
	if done == nil {
		<-p.done // It takes half the time of a select.
		return false
	}
	select {
	case <-p.done:
		return false
	case <-done:
		return true
	}
}

// timeoutOf returns the time until the deadline of ctx, or 0 without a deadline.
func timeoutOf(ctx context.Context) time.Duration {
	deadline, ok := ctx.Deadline()
	if !ok {
		return 0
	}
	return max(time.Until(deadline), time.Microsecond)
}

// Notify sends a request without a response. The server handles a client's notifications in order,
// and reads nothing else from it meanwhile: keep handlers short.
func (c *Client) Notify(method string, data []byte) error {
	if _, err := checkCall(context.Background(), method); err != nil {
		return err
	}
	c.mu.Lock()
	switch {
	case c.stopping:
		c.mu.Unlock()
		return &Error{Code: CodeStopped, Message: method}
	case c.goodbye != nil:
		defer c.mu.Unlock()
		return c.holdNotificationLocked(method, data)
	}
	c.enqueueing++
	c.mu.Unlock()
	err := sendWith(c.send, typeNotify, func(b []byte) []byte { return appendNotification(b, method, data) })
	c.mu.Lock()
	c.doneEnqueueingLocked()
	c.mu.Unlock()
	if err != nil {
		return asError(err)
	}
	return nil
}
