// SPDX-License-Identifier: Apache-2.0

package rpc

// This file has streams of values.

import (
	"context"
	"errors"
	"io"
	"iter"

	"github.com/udsipc/udsipc/codec"
)

// A StreamMethod is the name of a stream method and the codecs of its values: the request that opens
// a stream, the values that the client sends (Up), and those that the server sends (Down). Both
// programs declare it once, in a package that they share:
//
//	var Watch = rpc.NewStreamMethod("watch", codec.JSON[Filter](), codec.None, codec.JSON[Event]())
//
// The server then calls Watch.Handle, and the client Watch.Open. codec.None stands for a part that
// is not used. A StreamMethod has no state, and is safe for concurrent use.
type StreamMethod[Req, Up, Down any] struct {
	name     string
	requests codec.Codec[Req]
	ups      codec.Codec[Up]
	downs    codec.Codec[Down]
}

// NewStreamMethod returns a StreamMethod.
func NewStreamMethod[Req, Up, Down any](name string, requests codec.Codec[Req], ups codec.Codec[Up],
	downs codec.Codec[Down]) *StreamMethod[Req, Up, Down] {
	return &StreamMethod[Req, Up, Down]{name, requests, ups, downs}
}

// Name returns the name of the method.
func (m *StreamMethod[Req, Up, Down]) Name() string { return m.name }

// Handle sets the handler of the method, as Server.HandleStream does. A request that cannot be
// decoded fails with CodeInvalidArgument, and does not reach the handler. With codec.Raw the request
// is valid until handler returns.
func (m *StreamMethod[Req, Up, Down]) Handle(s *Server,
	handler func(ctx context.Context, request Req, stream *TypedStream[Down, Up]) error) {
	s.add(&method{name: m.name, stream: func(ctx context.Context, stream *Stream) error {
		request, err := m.requests.Decode(stream.Request())
		if err != nil {
			return invalid("a request", stream.Request(), err)
		}
		return handler(ctx, request, &TypedStream[Down, Up]{stream, m.downs, m.ups})
	}}, handler == nil)
}

// Open opens a stream, as Client.OpenStream does. A request that cannot be encoded fails with
// CodeInvalidArgument.
func (m *StreamMethod[Req, Up, Down]) Open(ctx context.Context, c *Client, request Req) (
	stream *TypedClientStream[Up, Down], err error) {
	b := getBytes(nil)
	defer putBytes(b)
	if *b, err = m.requests.Append(*b, request); err != nil {
		return nil, unencodable(err)
	}
	s, err := c.OpenStream(ctx, m.name, *b)
	if err != nil {
		return nil, err
	}
	return &TypedClientStream[Up, Down]{&TypedStream[Up, Down]{s.Stream, m.ups, m.downs}, s}, nil
}

// A TypedStream is a Stream that sends values of type S and receives values of type R. One goroutine
// may send and one may receive at a time.
type TypedStream[S, R any] struct {
	stream   *Stream
	sends    codec.Codec[S]
	receives codec.Codec[R]
}

// Context returns a context that ends with the stream, as Stream.Context does.
func (s *TypedStream[S, R]) Context() context.Context { return s.stream.Context() }

// Send sends a value, as Stream.Send does. A value that cannot be encoded fails with
// CodeInvalidArgument, and the stream goes on without it.
func (s *TypedStream[S, R]) Send(v S) (err error) {
	b := getBytes(nil)
	defer putBytes(b)
	if *b, err = s.sends.Append(*b, v); err != nil {
		return unencodable(err)
	}
	return s.stream.Send(*b)
}

// Receive returns the next value, or the zero value and an error, as Stream.Receive does. For a
// message that cannot be decoded the error matches codec.ErrInvalid; its code is
// CodeInvalidArgument. That message is consumed, and the next call returns the next one. With
// codec.Raw the value is valid until the next call.
func (s *TypedStream[S, R]) Receive() (v R, err error) {
	data, err := s.stream.Receive()
	if err != nil {
		return v, err
	}
	decoded, err := s.receives.Decode(data)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF // It is not the end of the stream.
	}
	if err != nil {
		return v, errorf(CodeInvalidArgument, "%w of %d bytes: %w", codec.ErrInvalid, len(data), err)
	}
	return decoded, nil
}

// Messages returns an iterator over the values of Receive. It ends when the peer has sent everything
// (io.EOF), and after any other error, which it yields with the zero value; after a message that
// cannot be decoded it goes on. To break out of the loop does not end the stream: another loop goes on
// with the next value.
func (s *TypedStream[S, R]) Messages() iter.Seq2[R, error] {
	return received(s.Receive, func(err error) bool { return !errors.Is(err, codec.ErrInvalid) })
}

// CloseSend ends the sending direction, as Stream.CloseSend does.
func (s *TypedStream[S, R]) CloseSend() error { return s.stream.CloseSend() }

// A TypedClientStream is the client's end of a TypedStream.
type TypedClientStream[S, R any] struct {
	*TypedStream[S, R]
	end *ClientStream
}

// Close ends the stream, as ClientStream.Close does.
func (s *TypedClientStream[S, R]) Close() error { return s.end.Close() }

// Messages returns an iterator over the messages of Receive; data is valid until the next one. It
// ends when the peer has sent everything (io.EOF), and after any other error, which it yields. To break
// out of the loop does not end the stream.
func (s *Stream) Messages() iter.Seq2[[]byte, error] {
	return received(s.Receive, func(error) bool { return true })
}

// received returns an iterator over what receive returns, until io.EOF or a final error.
func received[T any](receive func() (T, error), final func(err error) bool) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			v, err := receive()
			if err == io.EOF || !yield(v, err) || err != nil && final(err) {
				return
			}
		}
	}
}
