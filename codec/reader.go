// SPDX-License-Identifier: Apache-2.0

package codec

import (
	"errors"
	"io"
	"iter"

	"github.com/udsipc/udsipc"
)

// A MessageReader receives messages: a udsipc.Conn.
type MessageReader interface {
	// ReadMessage returns the next message. data is valid until the next call.
	ReadMessage() (data []byte, err error)
}

var _ MessageReader = (*udsipc.Conn)(nil)

// A Reader reads values. Only one goroutine may use it at a time.
type Reader[T any] struct {
	from  MessageReader
	codec Codec[T]
}

// NewReader returns a Reader that reads the messages of r.
func NewReader[T any](r MessageReader, c Codec[T]) *Reader[T] { return &Reader[T]{from: r, codec: c} }

// Read returns the value of the next message, or the zero value and an error. With Raw the value is
// valid until the next call.
//
// For a message that cannot be decoded, the error matches ErrInvalid; that message is consumed, and
// the next call returns the next one. Other errors are those of ReadMessage. For a udsipc.Conn: io.EOF
// means that the peer closed the connection between messages; after os.ErrDeadlineExceeded (a read
// deadline) and *udsipc.TooLargeError, Read may be called again, and nothing is lost but the message
// that is too large; any other error is final.
func (r *Reader[T]) Read() (v T, err error) {
	data, err := r.from.ReadMessage()
	if err != nil {
		return v, err
	}
	return decode(r.codec, data)
}

// decode returns the value of data, or the zero value and an error that matches ErrInvalid.
func decode[T any](c Codec[T], data []byte) (v T, err error) {
	decoded, err := c.Decode(data)
	if err != nil {
		return v, invalid(data, err)
	}
	return decoded, nil
}

// Messages returns an iterator over the values of conn's messages, until the peer closes the
// connection. For a message that cannot be decoded it yields an error that matches ErrInvalid, and
// continues. Any other error is the last, also a read deadline that has passed: use a Reader to read
// on after that.
func Messages[T any](conn *udsipc.Conn, c Codec[T]) iter.Seq2[T, error] {
	r := NewReader(conn, c)
	return func(yield func(T, error) bool) {
		for {
			v, err := r.Read()
			if err == io.EOF || !yield(v, err) || err != nil && !errors.Is(err, ErrInvalid) {
				return
			}
		}
	}
}
