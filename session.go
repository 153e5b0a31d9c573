// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a session adds to the wire: the opening, the hello, the welcome, and what flows
// back. It only forms and reads bytes; session_write.go and session_read.go are the two ends of it.
// docs/PROTOCOL.md explains each field.

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"time"
)

// sessionVersion is the version of all that this file describes.
const sessionVersion = 1

// sessionPreface is how a session begins: more continuation bytes than any length prefix has, so that a
// reader that knows only frames fails at the eleventh. It spells "udsipc-acked" with each byte's
// highest bit set.
var sessionPreface = []byte{0xf5, 0xe4, 0xf3, 0xe9, 0xf0, 0xe3, 0xad, 0xe1, 0xe3, 0xeb, 0xe5, 0xe4}

// heartbeat says that its sender lives: a zero in a form that is longer than it need be, which no
// frame and no acknowledgement begins with.
var heartbeat = []byte{0x80, 0x00}

// minHeartbeatTimeout is the least that WithHeartbeatTimeout may be, and that a peer is believed to want.
const minHeartbeatTimeout = 100 * time.Millisecond

// heartbeatsPerTimeout is how many heartbeats are sent in the time in which one must arrive.
const heartbeatsPerTimeout = 3

const (
	maxHandshakeBody = 128           // The longest body of a hello or a welcome.
	maxNumber        = math.MaxInt64 // The largest number that is believed, so that none overflows.
)

// Why a session is refused, or its end.
var (
	errHandshakeFormat = fmt.Errorf("%w: malformed greeting", errInvalidSession)
	errAcknowledgement = fmt.Errorf("%w: malformed acknowledgement", errInvalidSession)
	errVersion         = fmt.Errorf("%w: unknown version", errInvalidSession)
)

// An id names a writer for as long as it lives, over all of its connections.
type id [16]byte

// String returns the ID in hexadecimal.
func (i id) String() string { return hex.EncodeToString(i[:]) }

// A hello is what a writer says first.
type hello struct {
	writer           id
	epoch            uint64        // Counts the writer's connections from 1, so that a late one is known.
	firstSeq         uint64        // The oldest message that the writer still holds, or the next if it holds none.
	lastSentSeq      uint64        // The newest message that it ever sent; first-1 or more.
	heartbeatTimeout time.Duration // The longest silence of the reader that it puts up with; 0 for any.
}

// A welcome is the reader's answer.
type welcome struct {
	status           welcomeStatus
	handled          uint64        // The last message of this writer that is handled.
	limit            uint64        // The largest message that the reader takes.
	heartbeatTimeout time.Duration // The longest silence of the writer that it puts up with; 0 for any.
}

// A welcomeStatus says whether the session goes on.
type welcomeStatus uint64

const (
	statusWelcome  welcomeStatus = iota
	statusVersion                // The reader does not know the hello's version; the welcome has its own.
	statusOldEpoch               // The writer has connected again since.
)

func (s welcomeStatus) String() string {
	switch s {
	case statusWelcome:
		return "welcome"
	case statusVersion:
		return "unknown version"
	case statusOldEpoch:
		return "a newer connection exists"
	}
	return fmt.Sprintf("status %d", uint64(s))
}

// hasPreface says whether b, which is no frame, is the beginning of a session.
func hasPreface(b []byte) bool {
	return bytes.Equal(b[:min(len(b), len(sessionPreface))], sessionPreface[:min(len(b), len(sessionPreface))])
}

// appendHello appends the opening and the hello to dst.
func appendHello(dst []byte, h hello) []byte {
	body := binary.AppendUvarint(make([]byte, 0, maxHandshakeBody), sessionVersion)
	body = append(body, h.writer[:]...)
	for _, n := range []uint64{h.epoch, h.firstSeq, h.lastSentSeq, uint64(h.heartbeatTimeout.Milliseconds())} {
		body = binary.AppendUvarint(body, n)
	}
	return appendFrame(append(dst, sessionPreface...), body)
}

// appendWelcome appends the welcome to dst.
func appendWelcome(dst []byte, w welcome) []byte {
	body := make([]byte, 0, maxHandshakeBody)
	for _, n := range []uint64{sessionVersion, uint64(w.status), w.handled, w.limit, uint64(w.heartbeatTimeout.Milliseconds())} {
		body = binary.AppendUvarint(body, n)
	}
	return appendFrame(dst, body)
}

// parseHello reads an opening and a hello at the start of b, and returns how many bytes they are: 0
// if they are not there whole yet. The error matches errVersion if everything else must be ignored.
func parseHello(b []byte) (h hello, size int, err error) {
	if !hasPreface(b) {
		return h, 0, fmt.Errorf("%w: it begins with % x", errHandshakeFormat, b[:min(len(b), len(sessionPreface))])
	}
	if len(b) < len(sessionPreface) {
		return h, 0, nil
	}
	body, size, err := parseHandshakeFrame(b[len(sessionPreface):])
	if err != nil || size == 0 {
		return h, 0, err
	}
	f := fieldReader{rest: body, wrapErr: errHandshakeFormat}
	if version := f.number(); f.err == nil && version != sessionVersion {
		return h, 0, fmt.Errorf("%w: the writer speaks %d, this reader %d", errVersion, version, sessionVersion)
	}
	copy(h.writer[:], f.bytes(len(h.writer)))
	h.epoch, h.firstSeq, h.lastSentSeq, h.heartbeatTimeout = f.number(), f.number(), f.number(), f.heartbeatTimeout()
	switch {
	case f.end() != nil:
		err = f.err
	case h.epoch == 0, h.firstSeq == 0, h.lastSentSeq < h.firstSeq-1:
		err = fmt.Errorf("%w: attempt %d, messages %d to %d cannot be", errHandshakeFormat, h.epoch, h.firstSeq, h.lastSentSeq)
	}
	return h, len(sessionPreface) + size, err
}

// parseWelcome reads a welcome at the start of b, and returns how many bytes it is: 0 if it is not
// there whole yet.
func parseWelcome(b []byte) (w welcome, size int, err error) {
	body, size, err := parseHandshakeFrame(b)
	if err != nil || size == 0 {
		return w, 0, err
	}
	f := fieldReader{rest: body, wrapErr: errHandshakeFormat}
	version := f.number()
	w.status = welcomeStatus(f.number())
	if f.err == nil && (version != sessionVersion || w.status == statusVersion) {
		return w, 0, fmt.Errorf("%w: the reader speaks %d, this writer %d", errVersion, version, sessionVersion)
	}
	w.handled, w.limit, w.heartbeatTimeout = f.number(), f.number(), f.heartbeatTimeout()
	switch {
	case f.end() != nil:
		return w, 0, f.err
	case w.status == statusWelcome && w.limit == 0:
		return w, 0, fmt.Errorf("%w: a limit of 0 bytes cannot be", errHandshakeFormat)
	}
	return w, size, nil
}

// parseHandshakeFrame reads a frame whose body is not empty and short.
func parseHandshakeFrame(b []byte) (body []byte, size int, err error) {
	length, header, err := parsePrefix(b)
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("%w: %w", errHandshakeFormat, err)
	case header == 0:
		return nil, 0, nil
	case length == 0 || length > maxHandshakeBody:
		return nil, 0, fmt.Errorf("%w: %d bytes, want 1 to %d", errHandshakeFormat, length, maxHandshakeBody)
	case len(b) < header+int(length):
		return nil, 0, nil
	}
	return b[header : header+int(length)], header + int(length), nil
}

// fieldReader are what is left of a greeting's body, or of another sequence of numbers, and the first thing that was
// wrong with it.
type fieldReader struct {
	rest    []byte
	wrapErr error // What every error wraps.
	err     error
}

func (f *fieldReader) bytes(n int) []byte {
	if f.err == nil && len(f.rest) < n {
		f.err = fmt.Errorf("%w: it ends too early", f.wrapErr)
	}
	if f.err != nil {
		return nil
	}
	taken := f.rest[:n]
	f.rest = f.rest[n:]
	return taken
}

func (f *fieldReader) number() uint64 {
	n, size := binary.Uvarint(f.rest)
	if f.err == nil && (size <= 0 || n > maxNumber) {
		f.err = fmt.Errorf("%w: % x is no number of up to 63 bits", f.wrapErr, f.rest[:min(len(f.rest), maxPrefixSize)])
	}
	f.bytes(max(size, 0))
	if f.err != nil {
		return 0
	}
	return n
}

// milliseconds reads a duration.
func (f *fieldReader) milliseconds() time.Duration {
	return time.Duration(min(f.number(), uint64(math.MaxInt64/time.Millisecond))) * time.Millisecond
}

// heartbeatTimeout reads a duration. What is shorter than anybody can keep counts as minHeartbeatTimeout.
func (f *fieldReader) heartbeatTimeout() time.Duration {
	d := f.milliseconds()
	if d == 0 {
		return 0
	}
	return max(d, minHeartbeatTimeout)
}

func (f *fieldReader) end() error {
	if f.err == nil && len(f.rest) > 0 {
		f.err = fmt.Errorf("%w: %d bytes too many", f.wrapErr, len(f.rest))
	}
	return f.err
}

// parseAck reads what a reader sends after the welcome: the number of the last message that it has
// handled, 0 for the goodbye. A heartbeat is nothing but alive. A size of 0 means that the rest has not
// come yet.
func parseAck(b []byte) (handled uint64, alive bool, size int, err error) {
	handled, size, err = parsePrefix(b)
	switch {
	case err != nil:
		return 0, false, 0, fmt.Errorf("%w: %w", errAcknowledgement, err)
	case size == 0:
		return 0, false, 0, nil
	case bytes.Equal(b[:size], heartbeat):
		return 0, true, size, nil
	case size > 1 && b[size-1] == 0:
		return 0, false, 0, fmt.Errorf("%w: % x is longer than it need be", errAcknowledgement, b[:size])
	}
	return handled, false, size, nil
}
