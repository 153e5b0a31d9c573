// SPDX-License-Identifier: Apache-2.0

package rpc

// This file opens streams at the client.

import (
	"context"
	"encoding/binary"
)

// OpenStream opens a stream of a method. The handler gets request (Stream.Request), which may be nil;
// the caller may reuse it. ctx applies to the whole stream: when it ends, both ends of the stream
// end. The caller must call Close. Receive and Send return errors of the peer, such as an unknown
// method.
//
// A stream ends with its connection: Receive returns the received messages, then an error with
// CodeConnectionLost, or io.EOF if the peer had already ended it. When the server stops, Send fails
// with CodeConnectionLost, and Receive continues to the end.
func (c *Client) OpenStream(ctx context.Context, method string, request []byte) (*ClientStream, error) {
	if c.open != nil {
		return c.open(ctx, method, request)
	}
	return c.openStream(ctx, method, request)
}

// openStream is OpenStream without interceptors.
func (c *Client) openStream(ctx context.Context, method string, data []byte) (*ClientStream, error) {
	metadata, err := checkCall(ctx, method)
	if err != nil {
		return nil, err
	}
	own, cancel := context.WithCancelCause(ctx)
	s := &ClientStream{client: c, cancel: cancel}
	s.Stream = newStream(0, own, c.output, c.link.MaxMessageSize(), window)
	s.onFail = func(cause error) { cancel(cause) }
	p := &pendingCall{done: make(chan struct{}, 1), ctx: ctx, stream: s.Stream}
	id, err := c.admit(p, method)
	if err != nil {
		cancel(err)
		return nil, err
	}
	q := request{id: id, timeout: timeoutOf(ctx)}
	b := getBytes(nil)
	defer putBytes(b)
	*b = append(binary.AppendUvarint(*b, window), data...)
	if err := c.sendRequest(p, &q, typeOpen, method, metadata, *b); err != nil {
		if c.removeCall(id) {
			err = unsent(ctx, err, method)
		} else {
			_, err = s.Receive() // A disconnect has ended the stream first.
		}
		cancel(err)
		return nil, err
	}
	context.AfterFunc(own, func() {
		s.fail(contextError(own))
		if c.removeCall(id) {
			c.sendCancel(id)
		}
	})
	return s, nil
}

// contextError returns the error of a stream that ends with its context, or by Close. The caller's cause
// is only text: with its code, the error would look like one of the handler.
func contextError(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	e := &Error{Code: CodeOf(err), Message: "the stream's context has ended"}
	if cause != err {
		e.Message += ": " + cause.Error()
	}
	return e
}

// A ClientStream is the client's end of a Stream.
type ClientStream struct {
	*Stream
	client *Client
	cancel context.CancelCauseFunc
}

// Close ends the stream; the context of its handler ends too. It may be called again.
func (s *ClientStream) Close() error {
	s.cancel(context.Canceled)
	return nil
}
