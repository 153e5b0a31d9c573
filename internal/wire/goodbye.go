// SPDX-License-Identifier: Apache-2.0

package wire

// This file is what a Reader says when it ends a connection: the goodbye, and the report on what it
// has read. It only forms and reads bytes; docs/PROTOCOL.md explains each field. In package
// transport, in_end.go is the Reader's side of it, out_verdict.go the Writer's.

import (
	"encoding/binary"
	"fmt"
)

// Goodbye is an empty frame. After CloseRead it is sent at the end of the stream. Elsewhere it asks
// for that end, and a Writer half-closes the connection. A writer that does not support it is not
// affected.
var Goodbye = []byte{0}

// A CloseReason is the reason why a Reader closes a connection.
type CloseReason uint64

const (
	CloseOrderly      CloseReason = iota // The Reader stops, or the connection was idle.
	CloseFull                            // Too many connections are open.
	CloseUnauthorized                    // The authorizer rejects the peer.
	CloseTooLarge                        // A message is over the limit.
	CloseMalformed                       // A length prefix is over 64 bits.
	CloseTooSlow                         // A message did not arrive in time.
	CloseNotTLS                          // The Reader speaks TLS, the peer does not.
	CloseNotReader                       // This side is no Reader: it speaks another protocol over frames.
)

// RejectsPeer reports whether the Reader rejected the peer, not a message.
func (r CloseReason) RejectsPeer() bool {
	return r == CloseFull || r == CloseUnauthorized || r == CloseNotTLS || r == CloseNotReader
}

// A CloseReport describes what a Reader has read of a connection.
type CloseReport struct {
	Reason      CloseReason
	FirstUnread uint64 // The first message that was not read, counted from 1 on this connection; 0 if not known.
	// How many of those before it, or of all if FirstUnread is 0, were not handled: mostly because
	// they were over the limit.
	Skipped uint64
	Limit   uint64 // The largest message that the Reader accepts, in bytes.
}

// Append appends the report to dst, as a frame.
func (r CloseReport) Append(dst []byte) []byte { return AppendFrame(dst, r.Body()) }

// Body returns the report, as the message of a frame.
func (r CloseReport) Body() []byte {
	body := make([]byte, 0, MaxHandshakeBody)
	for _, n := range []uint64{uint64(r.Reason), r.FirstUnread, r.Skipped, r.Limit} {
		body = binary.AppendUvarint(body, n)
	}
	return body
}

// ParseCloseReport parses a report at the start of b. It returns its size, or 0 if it is
// incomplete. Unknown fields at the end are for later versions.
func ParseCloseReport(b []byte) (r CloseReport, size int, err error) {
	body, size, err := parseHandshakeFrame(b)
	if err != nil || size == 0 {
		return r, 0, err
	}
	f := fieldReader{rest: body, wrapErr: ErrHandshakeFormat}
	r.Reason, r.FirstUnread, r.Skipped, r.Limit = CloseReason(f.number()), f.number(), f.number(), f.number()
	if f.err == nil && r.FirstUnread > 0 && r.Skipped >= r.FirstUnread {
		f.err = fmt.Errorf("%w: %d of %d messages skipped", ErrHandshakeFormat, r.Skipped, r.FirstUnread-1)
	}
	if f.err != nil {
		return CloseReport{}, 0, f.err
	}
	return r, size, nil
}

// Lost returns how many of the messages written to the connection were not handled, by the report.
// FirstUnread must not be 0.
func (r CloseReport) Lost(written uint64) uint64 {
	read := min(r.FirstUnread-1, written)
	return written - read + min(r.Skipped, read)
}
