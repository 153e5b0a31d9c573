// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the wire format as a user of the package meets it: how large a message may be, what is said of one that
// is larger, and messages as a sequence or as a stream of bytes. Package wire forms and parses the frames themselves.

import (
	"io"
	"iter"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// maxMessageLimit bounds every message, whatever WithMaxMessageSize says: a length that no buffer can
// hold, on a 32-bit system either, is never believed.
const maxMessageLimit = 1 << 30

// prefixAllowance is more than any prefix of a message takes.
const prefixAllowance = 16

// A length that is believed fits an int of 32 bits with its prefix, and a queue has room for the prefix of its largest
// message: otherwise these lines are errors of the compiler.
const (
	_ = int32(maxMessageLimit + wire.MaxPrefixSize)
	_ = uint64(prefixAllowance - wire.MaxPrefixSize)
)

// A TooLargeError is the error of a Conn or a Link for a received message over its limit. The
// message is skipped, and reading continues.
type TooLargeError struct {
	Size, Limit uint64
	Head        []byte // Its first bytes, up to 32.
}

func (e *TooLargeError) Error() string { return (*errdefs.TooLarge)(e).Error() }

// Unwrap returns ErrMessageTooLarge.
func (e *TooLargeError) Unwrap() error { return ErrMessageTooLarge }

// Messages returns what ReadMessage returns, one after the other, until the peer ends the connection. Any other
// error is the last thing that it yields.
func (c *Conn) Messages() iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			data, err := c.ReadMessage()
			if err == io.EOF || !yield(data, err) || err != nil {
				return
			}
		}
	}
}

// Stream returns the connection as a stream of bytes, for what knows nothing of messages: each Write sends its bytes as
// messages of up to WithMaxMessageSize, and Read returns the bytes of messages one after the other, whatever their
// bounds. The peer uses it as well. Close closes the Conn.
func (c *Conn) Stream() io.ReadWriteCloser { return &byteStream{conn: c} }

// A byteStream is a Conn without bounds between messages.
type byteStream struct {
	conn *Conn
	rest []byte // Of the last message; its reader's own.
}

func (s *byteStream) Read(b []byte) (int, error) {
	for len(s.rest) == 0 {
		if len(b) == 0 {
			return 0, nil
		}
		var err error
		if s.rest, err = s.conn.ReadMessage(); err != nil {
			return 0, err
		}
	}
	n := copy(b, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *byteStream) Write(b []byte) (n int, err error) {
	for n < len(b) {
		end := min(uint64(len(b)), uint64(n)+s.conn.limit)
		if err := s.conn.WriteMessage(b[n:end]); err != nil {
			return n, err
		}
		n = int(end)
	}
	return n, nil
}

func (s *byteStream) Close() error { return s.conn.Close() }
