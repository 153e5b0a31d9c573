// SPDX-License-Identifier: Apache-2.0

package rpc

// This file has the interceptors of a Client.

import "context"

// A CallFunc makes a call, as Client.Call does. It does not keep request.
type CallFunc func(ctx context.Context, method string, request []byte) (response []byte, err error)

// A ClientInterceptor wraps calls, for logging, metrics, or metadata (WithMetadata). It returns a
// CallFunc that may call next, also more than once.
type ClientInterceptor func(next CallFunc) CallFunc

// An OpenFunc opens a stream, as Client.OpenStream does. It does not keep request.
type OpenFunc func(ctx context.Context, method string, request []byte) (*ClientStream, error)

// A ClientStreamInterceptor wraps the opening of streams. It returns an OpenFunc that may call next. The context of the
// stream (Stream.Context) tells its end.
type ClientStreamInterceptor func(next OpenFunc) OpenFunc

// Use adds interceptors to Call, CallIdempotent and the calls of Method; the first is the outermost, after those of
// earlier calls of Use. What an idempotent call sends again after a disconnect is one call. Streams have their own
// (UseStream), notifications none. Use must be called before the first call; it panics after Start. Each Use wraps the
// calls anew, so an interceptor is asked for its CallFunc more than once.
func (c *Client) Use(interceptors ...ClientInterceptor) {
	if c.started.Load() {
		panic("udsipc/rpc: interceptor after Start")
	}
	c.interceptors = append(c.interceptors, interceptors...)
	c.plain = c.chain(false)
	c.idempotent = c.chain(true)
}

// chain returns the calls with all interceptors.
func (c *Client) chain(idempotent bool) CallFunc {
	call := func(ctx context.Context, method string, request []byte) ([]byte, error) {
		return c.invoke(ctx, method, request, idempotent)
	}
	for i := len(c.interceptors) - 1; i >= 0; i-- {
		if call = c.interceptors[i](call); call == nil {
			panic("udsipc/rpc: an interceptor returned no CallFunc")
		}
	}
	return call
}

// UseStream adds interceptors to OpenStream and StreamMethod.Open; the first is the outermost, after those of earlier
// calls. It must be called before the first stream; it panics after Start.
func (c *Client) UseStream(interceptors ...ClientStreamInterceptor) {
	if c.started.Load() {
		panic("udsipc/rpc: interceptor after Start")
	}
	c.streamInterceptors = append(c.streamInterceptors, interceptors...)
	c.open = c.openStream
	for i := len(c.streamInterceptors) - 1; i >= 0; i-- {
		if c.open = c.streamInterceptors[i](c.open); c.open == nil {
			panic("udsipc/rpc: an interceptor returned no OpenFunc")
		}
	}
}
