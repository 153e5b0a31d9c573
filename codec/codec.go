// SPDX-License-Identifier: Apache-2.0

package codec

// This file has the codecs, and what connects them to a Reader, a Writer and a Conn.

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/udsipc/udsipc"
)

// ErrInvalid is matched by the error for a message that cannot be decoded.
var ErrInvalid = errors.New("udsipc/codec: invalid message")

// A Codec encodes a value as the bytes of one message, and decodes it.
type Codec[T any] interface {
	// Append appends the bytes of v to dst and returns it.
	Append(dst []byte, v T) ([]byte, error)
	// Decode returns the value of data. The value must not refer to data, unless the codec
	// documents it.
	Decode(data []byte) (T, error)
}

// Of returns a codec that calls the two functions. They must follow the rules of Codec.
func Of[T any](appendTo func(dst []byte, v T) ([]byte, error), decode func(data []byte) (T, error)) Codec[T] {
	return functions[T]{appendTo, decode}
}

type functions[T any] struct {
	appendTo func(dst []byte, v T) ([]byte, error)
	decode   func(data []byte) (T, error)
}

func (f functions[T]) Append(dst []byte, v T) ([]byte, error) { return f.appendTo(dst, v) }

func (f functions[T]) Decode(data []byte) (T, error) { return f.decode(data) }

// JSON returns the codec of encoding/json.
func JSON[T any]() Codec[T] {
	return Of(func(dst []byte, v T) ([]byte, error) {
		text, err := json.Marshal(v)
		return append(dst, text...), err
	}, func(data []byte) (v T, err error) {
		err = json.Unmarshal(data, &v)
		return v, err
	})
}

// Gob returns the codec of encoding/gob. Each message carries the description of its type, so a
// small one takes several times the bytes of JSON. encoding/gob is not hardened against hostile
// input: use it only if all peers are trusted (udsipc.WithAuthorizer).
func Gob[T any]() Codec[T] {
	return Of(func(dst []byte, v T) ([]byte, error) {
		b := bytes.NewBuffer(dst)
		err := gob.NewEncoder(b).Encode(&v)
		return b.Bytes(), err
	}, func(data []byte) (v T, err error) {
		err = gob.NewDecoder(bytes.NewReader(data)).Decode(&v)
		return v, err
	})
}

// Raw is the codec of plain bytes. Decode returns data itself, which is valid as long as data: in a
// handler, until the handler returns.
var Raw Codec[[]byte] = raw{}

type raw struct{}

func (raw) Append(dst, v []byte) ([]byte, error) { return append(dst, v...), nil }

func (raw) Decode(data []byte) ([]byte, error) { return data, nil }

// None is the codec of no value, for what has none to carry. It encodes as no bytes.
var None Codec[struct{}] = none{}

type none struct{}

func (none) Append(dst []byte, _ struct{}) ([]byte, error) { return dst, nil }

func (none) Decode(data []byte) (v struct{}, err error) {
	if len(data) > 0 {
		err = errors.New("udsipc/codec: there are bytes, where no value is expected")
	}
	return v, err
}

// Handler returns a MessageHandler that decodes each message and calls handle with the value. For a
// message that cannot be decoded it returns an error that matches ErrInvalid.
func Handler[T any](c Codec[T], handle func(v T) error) udsipc.MessageHandler {
	return func(data []byte) error {
		v, err := c.Decode(data)
		if err != nil {
			return invalid(data, err)
		}
		return handle(v)
	}
}

// invalid returns the error for data that cannot be decoded. It never matches io.EOF, which means the
// end of the connection.
func invalid(data []byte, err error) error {
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return fmt.Errorf("%w of %d bytes: %w", ErrInvalid, len(data), err)
}

// A MessageWriter sends messages: a udsipc.Writer, Link or Conn.
type MessageWriter interface{ WriteMessage(data []byte) error }

var _, _, _ MessageWriter = (*udsipc.Writer)(nil), (*udsipc.Link)(nil), (*udsipc.Conn)(nil)

// A Writer writes values. It is safe for concurrent use if its MessageWriter is.
type Writer[T any] struct {
	to    MessageWriter
	codec Codec[T]
}

// NewWriter returns a Writer that writes to w.
func NewWriter[T any](w MessageWriter, c Codec[T]) *Writer[T] { return &Writer[T]{to: w, codec: c} }

// Write writes v as one message. It returns the error of the codec or of WriteMessage.
func (w *Writer[T]) Write(v T) error {
	b := buffers.Get().(*[]byte)
	defer put(b)
	var err error
	if *b, err = w.codec.Append((*b)[:0], v); err != nil {
		return err
	}
	return w.to.WriteMessage(*b)
}

var buffers = sync.Pool{New: func() any { return new([]byte) }}

// maxKept is the largest capacity of a pooled buffer, in bytes.
const maxKept = 64 << 10

func put(b *[]byte) {
	if cap(*b) <= maxKept {
		buffers.Put(b)
	}
}
