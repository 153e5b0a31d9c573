// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a Reader says when it ends a connection: the goodbye, and the report on what it
// has read. It only forms and reads bytes; docs/PROTOCOL.md explains each field. conn_end.go is the
// Reader's side of it, conn_verdict.go the Writer's.

import (
	"encoding/binary"
	"fmt"
)

// goodbye is an empty frame. Where the receiving side can be shut it is sent at the end of the stream;
// elsewhere it asks for that end, and a Writer answers by closing its sending side. A writer that
// does not know it is none the worse.
var goodbye = []byte{0}

// An closeReason is why a Reader ends a connection.
type closeReason uint64

const (
	closeOrderly      closeReason = iota // The Reader stops, or the connection was idle.
	closeFull                            // Too many connections are open.
	closeUnauthorized                    // The authorizer rejects the peer.
	closeTooLarge                        // A message is over the limit.
	closeMalformed                       // A length prefix is over 64 bits.
	closeTooSlow                         // A message did not arrive in time.
	closeNotTLS                          // The Reader speaks TLS, the peer does not.
)

// rejectsPeer reports whether the Reader ended the connection because of the peer, not of a message. No
// message is to blame for that.
func (r closeReason) rejectsPeer() bool {
	return r == closeFull || r == closeUnauthorized || r == closeNotTLS
}

// An closeReport says what became of the messages of a connection.
type closeReport struct {
	reason      closeReason
	firstUnread uint64 // The first message that was not read, counted from 1 on this connection; 0 if not known.
	skipped     uint64 // How many of those before it, or of all if next is 0, were not handled: mostly because they were over the limit.
	limit       uint64 // The largest message that the Reader accepts, in bytes.
}

// appendReport appends the report to dst, as a frame.
func appendReport(dst []byte, r closeReport) []byte {
	body := make([]byte, 0, maxHandshakeBody)
	for _, n := range []uint64{uint64(r.reason), r.firstUnread, r.skipped, r.limit} {
		body = binary.AppendUvarint(body, n)
	}
	return appendFrame(dst, body)
}

// parseReport reads a report at the start of b, and returns how many bytes it is: 0 if it is not there
// whole yet. Fields behind those that are known are for later versions.
func parseReport(b []byte) (r closeReport, size int, err error) {
	body, size, err := parseHandshakeFrame(b)
	if err != nil || size == 0 {
		return r, 0, err
	}
	f := fieldReader{rest: body, wrapErr: errHandshakeFormat}
	r.reason, r.firstUnread, r.skipped, r.limit = closeReason(f.number()), f.number(), f.number(), f.number()
	if f.err == nil && r.firstUnread > 0 && r.skipped >= r.firstUnread {
		f.err = fmt.Errorf("%w: %d of %d messages skipped", errHandshakeFormat, r.skipped, r.firstUnread-1)
	}
	if f.err != nil {
		return closeReport{}, 0, f.err
	}
	return r, size, nil
}

// lost returns how many of the messages that were written to the connection the report says were not
// handled. It may only be asked if the report knows (next).
func (r closeReport) lost(written uint64) uint64 {
	read := min(r.firstUnread-1, written)
	return written - read + min(r.skipped, read)
}
