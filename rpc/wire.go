// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The types of the messages of package duplex that this package sends. Each begins with the number of the call, which the
// client counts from 1; a notification has none.
const (
	typeRequest  = 1 // timeout in microseconds (0: none), length of the method, method, request.
	typeResponse = 2 // Response.
	typeError    = 3 // Code, text. It ends a call, or a stream.
	typeCancel   = 4 // Nothing.
	typeNotify   = 5 // Length of the method, method, data.
	typeOpen     = 6 // As typeRequest; what follows the method is the stream's first window in bytes.
	typeData     = 7 // Messages of a stream, each with its length before it.
	typeCredit   = 8 // How many more bytes the other side may send on a stream.
	typeEnd      = 9 // This side sends nothing more on a stream. From the server, 1 behind it: its handler has returned.

	// Without the number of a call. From the server: it stops; begin nothing more on this connection. From the client, as the
	// answer: it begins nothing more, and sends no more messages of streams. The answer repeats what the question holds, so that
	// one of a connection that was lost is not taken for the next one's.
	typeGoodbye = 10
)

// maxToken bounds what a goodbye holds, in bytes.
const maxToken = 16

// endOfHandler stands behind the number in the last message of a stream.
const endOfHandler = 1

// errMalformed is reported for a message that makes no sense.
var errMalformed = errors.New("udsipc/rpc: malformed message")

// A fieldReader takes the fields of a message.
type fieldReader struct {
	rest []byte
	bad  bool
}

func (r *fieldReader) number() uint64 {
	n, size := binary.Uvarint(r.rest)
	if size <= 0 {
		r.bad, r.rest = true, nil
		return 0
	}
	r.rest = r.rest[size:]
	return n
}

func (r *fieldReader) text() []byte {
	n := r.number()
	if n > uint64(len(r.rest)) {
		r.bad, r.rest = true, nil
		return nil
	}
	text := r.rest[:n:n]
	r.rest = r.rest[n:]
	return text
}

// A request is a message of typeRequest, typeOpen or, without a number, of typeNotify.
type request struct {
	id      uint64
	timeout time.Duration // 0: none.
	method  []byte
	data    []byte
}

func (q *request) append(b []byte, method string, data []byte) []byte {
	b = binary.AppendUvarint(b, q.id)
	b = binary.AppendUvarint(b, uint64(q.timeout.Microseconds()))
	b = binary.AppendUvarint(b, uint64(len(method)))
	return append(append(b, method...), data...)
}

func parseRequest(b []byte) (request, error) {
	r := fieldReader{rest: b}
	q := request{id: r.number(), timeout: micros(r.number()), method: r.text(), data: r.rest}
	if r.bad || q.id == 0 {
		return q, fmt.Errorf("%w: a request of %d bytes", errMalformed, len(b))
	}
	return q, nil
}

// maxTimeout is longer than anybody waits.
const maxTimeout = 1 << 50 * time.Microsecond

func micros(n uint64) time.Duration {
	return time.Duration(min(n, uint64(maxTimeout/time.Microsecond))) * time.Microsecond
}

func appendNotification(b []byte, method string, data []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(method)))
	return append(append(b, method...), data...)
}

func parseNotification(b []byte) (method, data []byte, err error) {
	r := fieldReader{rest: b}
	if method = r.text(); r.bad {
		return nil, nil, fmt.Errorf("%w: a notification of %d bytes", errMalformed, len(b))
	}
	return method, r.rest, nil
}

// parseID reads the number of a call, which every other message begins with.
func parseID(b []byte) (id uint64, rest []byte, err error) {
	r := fieldReader{rest: b}
	if id = r.number(); r.bad || id == 0 {
		return 0, nil, fmt.Errorf("%w: it begins with no number of a call", errMalformed)
	}
	return id, r.rest, nil
}

func appendError(b []byte, id uint64, e *Error) []byte {
	b = binary.AppendUvarint(b, id)
	b = binary.AppendUvarint(b, uint64(e.Code))
	return append(b, e.Message...)
}

// maxErrorText is how much is left at the most of a text that is too long.
const maxErrorText = 1 << 10

// appendFailure appends a message of typeError as it goes over the wire, with as much of its text as limit leaves room for.
func appendFailure(b []byte, id uint64, e *Error, limit uint64) []byte {
	text := e.Message
	for {
		b = appendError(appendType(b[:0], typeError), id, &Error{Code: e.Code, Message: text})
		if text == "" || uint64(len(b)) <= limit {
			return b
		}
		text = strings.ToValidUTF8(text[:min(len(text)/2, maxErrorText)], "")
	}
}

func parseError(b []byte) *Error {
	r := fieldReader{rest: b}
	code := r.number()
	if r.bad || code == 0 || code > maxCode {
		code = uint64(CodeUnknown)
	}
	return &Error{Code: Code(code), Message: string(r.rest)}
}
