// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a Reader tells the next one beside the descriptors that it leaves: what it knows of its writers,
// and whose session each connection is. Both are processes of one service
// on one machine, but not of one version: what is not understood is refused as a whole.

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// errHandOverState is why the memory of an earlier process is of no use.
var errHandOverState = errors.New("udsipc: malformed memory of an earlier process")

// handOverVersion is the version of this form.
const handOverVersion = 2

// maxIdentityLength bounds the length of a name in it.
const maxIdentityLength = 1 << 10

// A writerKey names a writer together with who it is, so that nobody can take another's place.
type writerKey struct {
	identity string
	writer   id
}

// A handOverState is all of it.
type handOverState struct {
	writers  []writerSnapshot
	sessions []sessionSnapshot
}

// A writerSnapshot is a writer that is remembered.
type writerSnapshot struct {
	key                 writerKey
	epoch               uint64
	handled             uint64
	maybeHandledThrough uint64
	failures            int
	idle                time.Duration // Since its last connection ended.
}

// A sessionSnapshot is a connection with acknowledgements.
type sessionSnapshot struct {
	inode             uint64 // Of the socket.
	writer            writerSnapshot
	limit             uint64 // The largest message that its writer was told of.
	heartbeatTimeout  time.Duration
	heartbeatInterval time.Duration
}

// encode is the state as it is stored.
func (s *handOverState) encode() []byte {
	b := binary.AppendUvarint(nil, handOverVersion)
	b = binary.AppendUvarint(b, uint64(len(s.writers)))
	for i := range s.writers {
		b = s.writers[i].append(b)
	}
	b = binary.AppendUvarint(b, uint64(len(s.sessions)))
	for i := range s.sessions {
		session := &s.sessions[i]
		b = binary.BigEndian.AppendUint64(b, session.inode)
		b = session.writer.append(b)
		for _, n := range []uint64{session.limit, uint64(session.heartbeatTimeout.Milliseconds()), uint64(session.heartbeatInterval.Milliseconds())} {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

func (w *writerSnapshot) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(w.key.identity)))
	b = append(append(b, w.key.identity...), w.key.writer[:]...)
	for _, n := range []uint64{w.epoch, w.handled, w.maybeHandledThrough, uint64(w.failures), uint64(w.idle.Milliseconds())} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func (f *fieldReader) writerSnapshot() writerSnapshot {
	w := writerSnapshot{key: writerKey{identity: f.name()}}
	copy(w.key.writer[:], f.bytes(len(w.key.writer)))
	w.epoch, w.handled, w.maybeHandledThrough = f.number(), f.number(), f.number()
	w.failures, w.idle = int(min(f.number(), math.MaxInt32)), f.milliseconds()
	return w
}

// parseHandOverState reads what bytes has made.
func parseHandOverState(b []byte) (s handOverState, err error) {
	f := fieldReader{rest: b, wrapErr: errHandOverState}
	if version := f.number(); f.err == nil && version != handOverVersion {
		return s, fmt.Errorf("%w: it has version %d, this process reads %d", errHandOverState, version, handOverVersion)
	}
	for range f.count() {
		s.writers = append(s.writers, f.writerSnapshot())
	}
	for range f.count() {
		session := sessionSnapshot{inode: f.fixed64(), writer: f.writerSnapshot()}
		session.limit, session.heartbeatTimeout, session.heartbeatInterval = f.number(), f.milliseconds(), f.milliseconds()
		s.sessions = append(s.sessions, session)
	}
	if err := f.end(); err != nil {
		return handOverState{}, err
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
