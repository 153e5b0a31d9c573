// SPDX-License-Identifier: Apache-2.0

package wire

// This file is the hand-over state, which a Reader stores beside its descriptors: the state of each writer, and whose
// session each connection is. Both processes are of one service on one machine, but not of one version: a state that is
// not understood is rejected as a whole.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// ErrHandOverState is the error for a state that cannot be used.
var ErrHandOverState = errors.New("udsipc: malformed hand-over state")

// handOverVersion is the version of this form.
const handOverVersion = 2

// maxIdentityLength limits the length of an identity.
const maxIdentityLength = 1 << 10

// A WriterKey is a writer ID together with the identity of its peer: another user cannot use the
// ID.
type WriterKey struct {
	Identity string
	Writer   WriterID
}

// A HandOverState is the stored state.
type HandOverState struct {
	Writers  []WriterSnapshot
	Sessions []SessionSnapshot
}

// A WriterSnapshot is a writer state.
type WriterSnapshot struct {
	Key                 WriterKey
	Epoch               uint64
	Handled             uint64
	MaybeHandledThrough uint64
	Failures            int
	Idle                time.Duration // Since its last connection ended.
}

// A SessionSnapshot is the session of a connection.
type SessionSnapshot struct {
	Inode             uint64 // Of the socket.
	Writer            WriterSnapshot
	Limit             uint64 // The largest message that its writer was told of.
	HeartbeatTimeout  time.Duration
	HeartbeatInterval time.Duration
}

// Encode returns the stored form of the state.
func (s *HandOverState) Encode() []byte {
	b := binary.AppendUvarint(nil, handOverVersion)
	b = binary.AppendUvarint(b, uint64(len(s.Writers)))
	for i := range s.Writers {
		b = s.Writers[i].append(b)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Sessions)))
	for i := range s.Sessions {
		session := &s.Sessions[i]
		b = binary.BigEndian.AppendUint64(b, session.Inode)
		b = session.Writer.append(b)
		for _, n := range []uint64{
			session.Limit, uint64(session.HeartbeatTimeout.Milliseconds()),
			uint64(session.HeartbeatInterval.Milliseconds()),
		} {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

func (w *WriterSnapshot) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(w.Key.Identity)))
	b = append(append(b, w.Key.Identity...), w.Key.Writer[:]...)
	for _, n := range []uint64{
		w.Epoch, w.Handled, w.MaybeHandledThrough, uint64(w.Failures), uint64(w.Idle.Milliseconds()),
	} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func (f *fieldReader) writerSnapshot() WriterSnapshot {
	w := WriterSnapshot{Key: WriterKey{Identity: f.name()}}
	copy(w.Key.Writer[:], f.bytes(len(w.Key.Writer)))
	w.Epoch, w.Handled, w.MaybeHandledThrough = f.number(), f.number(), f.number()
	w.Failures, w.Idle = int(min(f.number(), math.MaxInt32)), f.milliseconds()
	return w
}

// ParseHandOverState parses the result of Encode.
func ParseHandOverState(b []byte) (s HandOverState, err error) {
	f := fieldReader{rest: b, wrapErr: ErrHandOverState}
	if version := f.number(); f.err == nil && version != handOverVersion {
		return s, fmt.Errorf("%w: it has version %d, this process reads %d", ErrHandOverState, version, handOverVersion)
	}
	for range f.count() {
		s.Writers = append(s.Writers, f.writerSnapshot())
	}
	for range f.count() {
		session := SessionSnapshot{Inode: f.fixed64(), Writer: f.writerSnapshot()}
		session.Limit, session.HeartbeatTimeout, session.HeartbeatInterval = f.number(), f.milliseconds(), f.milliseconds()
		s.Sessions = append(s.Sessions, session)
	}
	if err := f.end(); err != nil {
		return HandOverState{}, err
	}
	return s, nil
}

// name reads a length and a name.
func (f *fieldReader) name() string {
	length := f.number()
	if length > maxIdentityLength {
		f.err = fmt.Errorf("%w: a name of %d bytes, the limit is %d", f.wrapErr, length, maxIdentityLength)
	}
	return string(f.bytes(int(min(length, maxIdentityLength))))
}

// count reads how many of something follow, each of at least a byte.
func (f *fieldReader) count() int {
	n := f.number()
	if n > uint64(len(f.rest)) && f.err == nil {
		f.err = fmt.Errorf("%w: %d entries in %d bytes", f.wrapErr, n, len(f.rest))
	}
	if f.err != nil {
		return 0
	}
	return int(n)
}

// fixed64 reads a number of eight bytes.
func (f *fieldReader) fixed64() uint64 {
	if b := f.bytes(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
