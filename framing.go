// SPDX-License-Identifier: Apache-2.0

// Package udsipc streams messages from many processes on one machine to one, over Unix sockets or
// TCP, without a broker.
//
// # Model
//
// A [Writer] lives in each program that sends. WriteMessage copies the message into a bounded queue
// and returns; one goroutine drains the queue in large vectored writes, connects by itself, again
// and again if it must, and sends what a broken connection did not take. A [Reader] lives in the
// program that receives. It listens on a socket of its own or on one that systemd passed, and hands
// each message to a callback, out of pooled buffers.
//
//	writer, err := udsipc.NewWriter("/run/app/collector.sock")
//	reader, err := udsipc.NewReader(func(data []byte) error { … }, "/run/app/collector.sock")
//
// An address is a path, unix:PATH, @name (an abstract Linux socket) or tcp://HOST:PORT.
//
// # Guarantees
//
// Every message for which WriteMessage returned nil is delivered, or counted and reported as not
// delivered. Messages of one Writer arrive in order; those of one connection are handled one after
// another, those of different connections at once.
//
// Without acknowledgements a message counts as sent when the kernel has taken its last byte; with
// [WithAcknowledgements], when the reader's handler has returned for it. What becomes of the messages:
//
//	                    plain                                        acknowledged
//	connection cut      what the kernel had not taken whole is       nothing is lost or repeated
//	                    sent again, from a frame boundary; what
//	                    it had taken is reported as possible loss,
//	                    with an upper bound (PossibleLossError)
//	reader stopped      on a Unix socket nothing is lost, repeated   nothing is lost; repeated only if a
//	                    or reordered: the reader handles all that    connection broke in that moment, and
//	                    the kernel had accepted                      marked (Delivery.Redelivered)
//	reader killed       what lay unread is lost, and reported as     nothing is lost; what was handled since
//	                    possible loss; what it had read and not      the last acknowledgement comes again,
//	                    handled is lost                              marked
//	writer stopped      Stop drains; what is left when its context   the same; what is handed back is what
//	                    ends is handed back (WithUndelivered)        was not acknowledged
//	writer killed       what the kernel had taken is delivered;      the same
//	                    what was still queued is lost
//	host lost           all that was not handled is lost             the same
//
// A Reader remembers 4,096 writers ([WithMaxWriters]), and each for an hour after its last connection
// ([WithWriterMemory]). To a writer that it has forgotten it is a new reader: what it has handled and
// not acknowledged comes again, marked.
//
// # Trust
//
// A socket file has its final mode, 0600 by default, from its first moment on. [WithAuthorizer] decides
// by who the peer is, on either side; [WithTLS] works over every transport, and plaintext over a network
// is refused unless [WithPlaintext] asks for it. A Reader bounds the connections, the memory and the time
// of its peers (docs/SECURITY.md).
//
// # systemd
//
// A Reader takes the socket that systemd passed, says when it is ready and what it does, and feeds the watchdog, if the
// service asks for it. [Reader.HandOver] leaves the listener and the connections to the next process, so that
// writers notice nothing of a restart (docs/SYSTEMD.md).
//
// # Conversations
//
// [Dial] and [Listen] give a [Conn], messages in both directions; a [Link] is one that connects again by itself. Packages
// duplex, rpc and codec stand on them: typed messages, calls, and values instead of bytes.
//
// # Bytes
//
// WriteMessage never keeps the caller's slice. What a handler gets is valid until it returns, and
// appending to it cannot touch a neighbour.
//
// # Wire format
//
// A stream of frames, each an unsigned varint (as of encoding/binary) with the length of the message
// in bytes, then the message. A length of 0 is a message of no bytes. Whatever writes that, in any
// language, is a writer. Acknowledgements cost a greeting on each connection, and no byte per message;
// docs/PROTOCOL.md has both byte by byte, with test vectors.
package udsipc

// This file is the wire format as a user of the package meets it: how large a message may be, what is said of one that
// is larger, and messages as a sequence or as a stream of bytes. The frames themselves are formed and read in frame.go.

import (
	"io"
	"iter"
)

// maxMessageLimit bounds every message, whatever WithMaxMessageSize says: a length that no buffer can
// hold, on a 32-bit system either, is never believed.
const maxMessageLimit = 1 << 30

// maxHeaderRoom is more than any prefix of a message takes.
const maxHeaderRoom = 16

// A length that is believed fits an int of 32 bits with its prefix, and a queue has room for the prefix of its largest
// message: otherwise these lines are errors of the compiler.
const (
	_ = int32(maxMessageLimit + maxHeaderSize)
	_ = uint64(maxHeaderRoom - maxHeaderSize)
)

// A TooLargeError is what a Conn and a Link say of a message over their limit. Reading goes on behind it.
type TooLargeError struct {
	Size, Limit uint64
	Head        []byte // Its first bytes, up to 32.
}

func (e *TooLargeError) Error() string { return (*tooLargeError)(e).Error() }

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
