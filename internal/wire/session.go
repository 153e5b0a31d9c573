// SPDX-License-Identifier: Apache-2.0

package wire

// This file is what a session adds to the wire: the preface, the hello, the welcome, and what flows
// back. It only forms and reads bytes; in_session.go and out_session.go of package transport are the two ends of it.
// docs/PROTOCOL.md explains each field.

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// sessionVersion is the version of all that this file describes.
const sessionVersion = 1

// sessionPreface is how a session begins: more continuation bytes than any length prefix has, so that a
// reader that knows only frames fails at the eleventh. It spells "udsipc-acked" with each byte's
// highest bit set.
var sessionPreface = []byte{0xf5, 0xe4, 0xf3, 0xe9, 0xf0, 0xe3, 0xad, 0xe1, 0xe3, 0xeb, 0xe5, 0xe4}

// Heartbeat is a zero in a form longer than necessary. No frame and no acknowledgement begins with
// it.
var Heartbeat = []byte{0x80, 0x00}

// MinHeartbeatTimeout is the minimum of WithHeartbeatTimeout, and of a peer's announced timeout.
const MinHeartbeatTimeout = 100 * time.Millisecond

// HeartbeatsPerTimeout is the number of heartbeats that are sent within one heartbeat timeout.
const HeartbeatsPerTimeout = 3

const (
	MaxHandshakeBody = 128 // The longest body of a hello or a welcome.
	// The largest number that is accepted, so that no sum overflows.
	maxNumber = math.MaxInt64
)

// Why a session is refused, or its end.
var (
	ErrHandshakeFormat = fmt.Errorf("%w: malformed session handshake", errdefs.ErrInvalidSession)
	ErrAcknowledgement = fmt.Errorf("%w: malformed acknowledgement", errdefs.ErrInvalidSession)
	ErrVersion         = fmt.Errorf("%w: unknown version", errdefs.ErrInvalidSession)
	ErrVersionQuery    = fmt.Errorf("%w: the peer asks which one is known", ErrVersion)
)

// A WriterID identifies a writer over all of its connections.
type WriterID [16]byte

// String returns the ID in hexadecimal.
func (i WriterID) String() string { return hex.EncodeToString(i[:]) }

// A Hello is the first frame of a writer.
type Hello struct {
	Writer WriterID
	Epoch  uint64 // Counts the writer's connections from 1; the higher epoch wins.
	// Oldest message that the writer still holds, or the next one if it holds none.
	FirstSeq         uint64
	LastSentSeq      uint64        // Newest message that was ever sent; FirstSeq-1 or more.
	HeartbeatTimeout time.Duration // How long the reader may send nothing; 0 for any time.
}

// A Welcome is the reader's reply.
type Welcome struct {
	Status           Status
	Handled          uint64        // Last handled message of this writer.
	Limit            uint64        // Largest message that the reader accepts, in bytes.
	HeartbeatTimeout time.Duration // How long the writer may send nothing; 0 for any time.
}

// A Status is the result of a session handshake.
type Status uint64

const (
	StatusWelcome  Status = iota
	StatusVersion         // The reader does not know the hello's version; the welcome has its own.
	StatusOldEpoch        // The writer has connected again since.
)

func (s Status) String() string {
	switch s {
	case StatusWelcome:
		return "welcome"
	case StatusVersion:
		return "unknown version"
	case StatusOldEpoch:
		return "a newer connection exists"
	}
	return fmt.Sprintf("status %d", uint64(s))
}

// HasPreface reports whether b begins with the session preface, or with a part of it that is no
// frame.
func HasPreface(b []byte) bool {
	return bytes.Equal(b[:min(len(b), len(sessionPreface))], sessionPreface[:min(len(b), len(sessionPreface))])
}

// Append appends the session preface and the hello to dst.
func (h Hello) Append(dst []byte) []byte {
	body := binary.AppendUvarint(make([]byte, 0, MaxHandshakeBody), sessionVersion)
	body = append(body, h.Writer[:]...)
	for _, n := range []uint64{h.Epoch, h.FirstSeq, h.LastSentSeq, uint64(h.HeartbeatTimeout.Milliseconds())} {
		body = binary.AppendUvarint(body, n)
	}
	return AppendFrame(append(dst, sessionPreface...), body)
}

// Append appends the welcome to dst.
func (w Welcome) Append(dst []byte) []byte {
	body := make([]byte, 0, MaxHandshakeBody)
	for _, n := range []uint64{
		sessionVersion, uint64(w.Status), w.Handled, w.Limit,
		uint64(w.HeartbeatTimeout.Milliseconds()),
	} {
		body = binary.AppendUvarint(body, n)
	}
	return AppendFrame(dst, body)
}

// ParseHello parses a session preface and a hello at the start of b. It returns their size, or 0 if
// they are incomplete. After an error that matches ErrVersion, the other results are not valid.
func ParseHello(b []byte) (h Hello, size int, err error) {
	if !HasPreface(b) {
		return h, 0, fmt.Errorf("%w: it begins with % x", ErrHandshakeFormat, b[:min(len(b), len(sessionPreface))])
	}
	if len(b) < len(sessionPreface) {
		return h, 0, nil
	}
	body, size, err := parseHandshakeFrame(b[len(sessionPreface):])
	if err != nil || size == 0 {
		return h, 0, err
	}
	f := fieldReader{rest: body, wrapErr: ErrHandshakeFormat}
	switch version := f.number(); {
	case f.err == nil && version == queryVersion:
		return h, 0, ErrVersionQuery
	case f.err == nil && version != sessionVersion:
		return h, 0, fmt.Errorf("%w: the writer speaks %d, this reader %d", ErrVersion, version, sessionVersion)
	}
	copy(h.Writer[:], f.bytes(len(h.Writer)))
	h.Epoch, h.FirstSeq, h.LastSentSeq, h.HeartbeatTimeout = f.number(), f.number(), f.number(), f.heartbeatTimeout()
	switch {
	case f.end() != nil:
		err = f.err
	case h.Epoch == 0, h.FirstSeq == 0, h.LastSentSeq < h.FirstSeq-1:
		err = fmt.Errorf("%w: epoch %d, messages %d to %d cannot be", ErrHandshakeFormat, h.Epoch, h.FirstSeq, h.LastSentSeq)
	}
	return h, len(sessionPreface) + size, err
}

// ParseWelcome parses a welcome at the start of b. It returns its size, or 0 if it is incomplete.
func ParseWelcome(b []byte) (w Welcome, size int, err error) {
	body, size, err := parseHandshakeFrame(b)
	if err == nil && size == 0 && len(b) > 1 && b[1] != sessionVersion {
		return w, 0, fmt.Errorf("%w: it begins with % x", ErrVersion, b[:2]) // The rest may never come.
	}
	if err != nil || size == 0 {
		return w, 0, err
	}
	f := fieldReader{rest: body, wrapErr: ErrHandshakeFormat}
	version := f.number()
	w.Status = Status(f.number())
	if f.err == nil && (version != sessionVersion || w.Status == StatusVersion) {
		return w, 0, fmt.Errorf("%w: the reader speaks %d, this writer %d", ErrVersion, version, sessionVersion)
	}
	w.Handled, w.Limit, w.HeartbeatTimeout = f.number(), f.number(), f.heartbeatTimeout()
	switch {
	case f.end() != nil:
		return w, 0, f.err
	case w.Status == StatusWelcome && w.Limit == 0:
		return w, 0, fmt.Errorf("%w: a limit of 0 bytes cannot be", ErrHandshakeFormat)
	}
	return w, size, nil
}

// parseHandshakeFrame parses a frame with a body of 1 to MaxHandshakeBody bytes.
func parseHandshakeFrame(b []byte) (body []byte, size int, err error) {
	length, header, err := ParsePrefix(b)
	switch {
	case err != nil:
		return nil, 0, fmt.Errorf("%w: %w", ErrHandshakeFormat, err)
	case header == 0:
		return nil, 0, nil
	case length == 0 || length > MaxHandshakeBody:
		return nil, 0, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrHandshakeFormat, length, MaxHandshakeBody)
	case len(b) < header+int(length):
		return nil, 0, nil
	}
	return b[header : header+int(length)], header + int(length), nil
}

// A fieldReader has the rest of a handshake frame's body, or of another sequence of numbers, and the first error in
// it.
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
		f.err = fmt.Errorf("%w: % x is no number of up to 63 bits", f.wrapErr, f.rest[:min(len(f.rest), MaxPrefixSize)])
	}
	f.bytes(max(size, 0))
	if f.err != nil {
		return 0
	}
	return n
}

// milliseconds decodes a duration.
func (f *fieldReader) milliseconds() time.Duration {
	return time.Duration(min(f.number(), uint64(math.MaxInt64/time.Millisecond))) * time.Millisecond
}

// heartbeatTimeout decodes a heartbeat timeout. Values below MinHeartbeatTimeout count as that.
func (f *fieldReader) heartbeatTimeout() time.Duration {
	d := f.milliseconds()
	if d == 0 {
		return 0
	}
	return max(d, MinHeartbeatTimeout)
}

func (f *fieldReader) end() error {
	if f.err == nil && len(f.rest) > 0 {
		f.err = fmt.Errorf("%w: %d bytes too many", f.wrapErr, len(f.rest))
	}
	return f.err
}

// ParseAck parses the reader's input after the welcome: the last handled message, or 0 for the
// goodbye. alive is set for a heartbeat. The size is 0 if the input is incomplete.
func ParseAck(b []byte) (handled uint64, alive bool, size int, err error) {
	handled, size, err = ParsePrefix(b)
	switch {
	case err != nil:
		return 0, false, 0, fmt.Errorf("%w: %w", ErrAcknowledgement, err)
	case size == 0:
		return 0, false, 0, nil
	case bytes.Equal(b[:size], Heartbeat):
		return 0, true, size, nil
	case size > 1 && b[size-1] == 0:
		return 0, false, 0, fmt.Errorf("%w: % x is longer than it need be", ErrAcknowledgement, b[:size])
	}
	return handled, false, size, nil
}
