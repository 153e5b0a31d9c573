// SPDX-License-Identifier: Apache-2.0

// Package codec puts values where packages udsipc and rpc have bytes.
//
//	events := codec.JSON[Event]()
//	reader, err := udsipc.NewReader(codec.Handler(events, func(e Event) error { … }), "/run/app.sock")
//	writer := codec.NewWriter(w, events)
//	err = writer.Write(Event{Name: "start"})
//
// JSON, Gob (among those who trust each other) and Raw are ready-made; Of makes a codec of two functions, which is all that protobuf and others take
// (contrib/protobuf). A codec has no state and may be used by any number of goroutines.
package codec

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"

	"github.com/udsipc/udsipc"
)

// ErrInvalid is matched by the error of a message that cannot be decoded.
var ErrInvalid = errors.New("udsipc/codec: invalid message")

// A Codec turns values into the bytes of one message each, and back.
type Codec[T any] interface {
	// Append appends the bytes of v to dst and returns it.
	Append(dst []byte, v T) ([]byte, error)
	// Decode returns the value of data. It may not keep data, nor return a part of it, unless it says so.
	Decode(data []byte) (T, error)
}

// Of makes a codec of two functions. They keep the rules of Codec.
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

// Gob returns the codec of encoding/gob. Each message is complete by itself: it carries the description of its type,
// which makes small ones several times as large as with JSON. encoding/gob is not hardened against hostile input, as
// its own documentation says: use it only where whoever may connect is trusted (udsipc.WithAuthorizer).
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

// Raw is the codec of bytes that stay as they are. What Decode returns is data itself: it is valid for as long as data is,
// in a handler until it returns.
var Raw Codec[[]byte] = raw{}

type raw struct{}

func (raw) Append(dst, v []byte) ([]byte, error) { return append(dst, v...), nil }

func (raw) Decode(data []byte) ([]byte, error) { return data, nil }

// Handler returns a handler of messages that hands their values to handle. A message that cannot be decoded is the handler's
// error, and matches ErrInvalid.
func Handler[T any](c Codec[T], handle func(v T) error) udsipc.MessageHandler {
	return func(data []byte) error {
		v, err := c.Decode(data)
		if err != nil {
			return invalid(data, err)
		}
		return handle(v)
	}
}

func invalid(data []byte, err error) error {
	return fmt.Errorf("%w of %d bytes: %w", ErrInvalid, len(data), err)
}

// A MessageWriter takes messages: a udsipc.Writer, Link or Conn.
type MessageWriter interface{ WriteMessage(data []byte) error }

var _, _, _ MessageWriter = (*udsipc.Writer)(nil), (*udsipc.Link)(nil), (*udsipc.Conn)(nil)

// A Writer writes values. Its methods may be called from any goroutine if those of what it writes to may.
type Writer[T any] struct {
	to    MessageWriter
	codec Codec[T]
}

// NewWriter returns a Writer that writes to w.
func NewWriter[T any](w MessageWriter, c Codec[T]) *Writer[T] { return &Writer[T]{to: w, codec: c} }

// Write writes v as one message. It returns what the codec or WriteMessage says.
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

// maxKept bounds the buffers that are kept.
const maxKept = 64 << 10

func put(b *[]byte) {
	if cap(*b) <= maxKept {
		buffers.Put(b)
	}
}

// Messages returns the values of the messages that come over conn, until the peer ends the connection. A message that
// cannot be decoded is yielded as an error that matches ErrInvalid, and the next one follows it; any other error is
// the last.
func Messages[T any](conn *udsipc.Conn, c Codec[T]) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			var v T
			data, err := conn.ReadMessage()
			if err == io.EOF {
				return
			}
			last := err != nil
			if !last {
				if v, err = c.Decode(data); err != nil {
					err = invalid(data, err)
				}
			}
			if !yield(v, err) || last {
				return
			}
		}
	}
}
