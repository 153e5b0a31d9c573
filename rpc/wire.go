// SPDX-License-Identifier: Apache-2.0

package rpc

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The message types of this package, on top of package duplex. Each message begins with the number
// of its call, which the client counts from 1. Notifications and goodbyes have none.
const (
	typeRequest  = 1 // Timeout in microseconds (0: none), length of the method, method with metadata, request.
	typeResponse = 2 // Response.
	typeError    = 3 // Code, text. It ends a call or a stream.
	typeCancel   = 4 // No fields.
	typeNotify   = 5 // Length of the method, method with metadata, data.
	typeOpen     = 6 // As typeRequest, with the first window in bytes before the request.
	typeData     = 7 // Messages of a stream, each with its length.
	typeCredit   = 8 // Bytes that the peer may send in addition on a stream.
	// The sender sends nothing more on a stream. From the server, a 1 follows after its handler has
	// returned.
	typeEnd = 9

	// A goodbye from the server: it stops; the client must not start anything new on this
	// connection. The client replies after all that it has started; then it starts nothing and
	// sends no stream messages. The reply repeats the token of the goodbye: a late reply of an
	// earlier connection does not match.
	typeGoodbye = 10
)

// maxToken is the largest length of the token of a goodbye, in bytes.
const maxToken = 16

// endOfHandler follows the number in the last message of a stream.
const endOfHandler = 1

// errMalformed is reported for a malformed message.
var errMalformed = errors.New("udsipc/rpc: malformed message")

// A fieldReader decodes the fields of a message.
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

// A request is a message of typeRequest, typeOpen or (without a number) typeNotify.
type request struct {
	id       uint64
	timeout  time.Duration // 0: none.
	method   []byte
	metadata []byte // Encoded; empty: none.
	data     []byte
}

func (q *request) append(b []byte, method, metadata string, data []byte) []byte {
	b = binary.AppendUvarint(b, q.id)
	b = binary.AppendUvarint(b, uint64(q.timeout.Microseconds()))
	if metadata == "" {
		b = binary.AppendUvarint(b, uint64(len(method)))
		return append(append(b, method...), data...)
	}
	b = binary.AppendUvarint(b, uint64(len(method)+1+len(metadata)))
	b = append(append(b, method...), 0)
	return append(append(b, metadata...), data...)
}

// splitMethod returns a method and its metadata, which follow after a zero.
func splitMethod(b []byte) (method, metadata []byte) {
	method, metadata, _ = bytes.Cut(b, []byte{0})
	return method, metadata
}

func parseRequest(b []byte) (request, error) {
	r := fieldReader{rest: b}
	q := request{id: r.number(), timeout: micros(r.number()), method: r.text(), data: r.rest}
	q.method, q.metadata = splitMethod(q.method)
	if r.bad || q.id == 0 {
		return q, fmt.Errorf("%w: a request of %d bytes", errMalformed, len(b))
	}
	return q, nil
}

// maxTimeout is the largest timeout that is accepted: about 35 years.
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

// parseID decodes the number of a call, with which every other message begins.
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

// maxErrorText is the largest length of a shortened error text, in bytes.
const maxErrorText = 1 << 10

// appendFailure appends a complete message of typeError. It shortens the text if the message is
// over the limit, and replaces what is no UTF-8.
func appendFailure(b []byte, id uint64, e *Error, limit uint64) []byte {
	text := strings.ToValidUTF8(e.Message, "\uFFFD")
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
