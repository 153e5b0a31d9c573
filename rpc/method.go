// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"context"

	"github.com/udsipc/udsipc/codec"
)

// A Method is the name of a method and the codecs of its values. Both programs declare it once, in
// a package that they share:
//
//	var Stat = rpc.NewMethod("stat", codec.JSON[StatRequest](), codec.JSON[StatResponse]())
//
// The server then calls Stat.Handle, and the client Stat.Call. codec.None stands for a request or a
// response without a value. A Method has no state, and is safe for concurrent use.
type Method[Req, Resp any] struct {
	name      string
	requests  codec.Codec[Req]
	responses codec.Codec[Resp]
}

// NewMethod returns a Method.
func NewMethod[Req, Resp any](name string, requests codec.Codec[Req], responses codec.Codec[Resp]) *Method[Req, Resp] {
	return &Method[Req, Resp]{name, requests, responses}
}

// Name returns the name of the method.
func (m *Method[Req, Resp]) Name() string { return m.name }

// Handle sets the handler of the method, as Server.Handle does. A request that cannot be decoded
// fails with CodeInvalidArgument, and does not reach the handler. With codec.Raw the request is valid
// until handler returns.
func (m *Method[Req, Resp]) Handle(s *Server, handler func(ctx context.Context, request Req) (Resp, error)) {
	s.add(&method{name: m.name, call: func(ctx context.Context, data []byte) ([]byte, error) {
		request, err := m.requests.Decode(data)
		if err != nil {
			return nil, invalid("a request", data, err)
		}
		response, err := handler(ctx, request)
		if err != nil {
			return nil, err
		}
		return m.responses.Append(nil, response)
	}}, handler == nil)
}

// Call calls the method, as Client.Call does. A request that cannot be encoded and a response that
// cannot be decoded fail with CodeInvalidArgument; the error matches that of the codec.
func (m *Method[Req, Resp]) Call(ctx context.Context, c *Client, request Req) (Resp, error) {
	return m.call(ctx, c, request, false)
}

// CallIdempotent is Call for an idempotent method, as Client.CallIdempotent is.
func (m *Method[Req, Resp]) CallIdempotent(ctx context.Context, c *Client, request Req) (Resp, error) {
	return m.call(ctx, c, request, true)
}

func (m *Method[Req, Resp]) call(ctx context.Context, c *Client, request Req, idempotent bool) (
	response Resp, err error) {
	b := getBytes(nil)
	defer putBytes(b)
	if *b, err = m.requests.Append(*b, request); err != nil {
		return response, unencodable(err)
	}
	data, err := c.call(ctx, m.name, *b, idempotent)
	if err != nil {
		return response, err
	}
	decoded, err := m.responses.Decode(data)
	if err != nil {
		return response, invalid("a response", data, err)
	}
	return decoded, nil
}

// Notify sends a request without a response, as Client.Notify does. A request that cannot be encoded
// fails with CodeInvalidArgument.
func (m *Method[Req, Resp]) Notify(c *Client, request Req) (err error) {
	b := getBytes(nil)
	defer putBytes(b)
	if *b, err = m.requests.Append(*b, request); err != nil {
		return unencodable(err)
	}
	return c.Notify(m.name, *b)
}

// invalid is the error for data that cannot be decoded.
func invalid(what string, data []byte, err error) *Error {
	return errorf(CodeInvalidArgument, "%s of %d bytes: %w", what, len(data), err)
}

// unencodable is the error for a value that cannot be encoded.
func unencodable(err error) *Error { return errorf(CodeInvalidArgument, "the value: %w", err) }
