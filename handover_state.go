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

// errLegacy is why the memory of an earlier process is of no use.
var errLegacy = errors.New("udsipc: malformed memory of an earlier process")

// legacyVersion is the version of this form.
const legacyVersion = 2

// maxLegacyNames bounds the length of a name in it.
const maxLegacyNames = 1 << 10

// A writerKey names a writer together with who it is, so that nobody can take another's place.
type writerKey struct {
	who    string
	writer id
}

// A legacyState is all of it.
type legacyState struct {
	writers  []legacyWriter
	sessions []legacySession
}

// A legacyWriter is a writer that is remembered.
type legacyWriter struct {
	key      writerKey
	attempt  uint64
	handled  uint64
	repeats  uint64
	failures int
	idle     time.Duration // Since its last connection ended.
}

// A legacySession is a connection with acknowledgements.
type legacySession struct {
	inode   uint64 // Of the socket.
	writer  legacyWriter
	limit   uint64 // The largest message that its writer was told of.
	silence time.Duration
	beat    time.Duration
}

// bytes is the state as it is stored.
func (s *legacyState) bytes() []byte {
	b := binary.AppendUvarint(nil, legacyVersion)
	b = binary.AppendUvarint(b, uint64(len(s.writers)))
	for i := range s.writers {
		b = s.writers[i].append(b)
	}
	b = binary.AppendUvarint(b, uint64(len(s.sessions)))
	for i := range s.sessions {
		session := &s.sessions[i]
		b = binary.BigEndian.AppendUint64(b, session.inode)
		b = session.writer.append(b)
		for _, n := range []uint64{session.limit, uint64(session.silence.Milliseconds()), uint64(session.beat.Milliseconds())} {
			b = binary.AppendUvarint(b, n)
		}
	}
	return b
}

func (w *legacyWriter) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(w.key.who)))
	b = append(append(b, w.key.who...), w.key.writer[:]...)
	for _, n := range []uint64{w.attempt, w.handled, w.repeats, uint64(w.failures), uint64(w.idle.Milliseconds())} {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

func (f *fields) legacyWriter() legacyWriter {
	w := legacyWriter{key: writerKey{who: f.name()}}
	copy(w.key.writer[:], f.take(len(w.key.writer)))
	w.attempt, w.handled, w.repeats = f.number(), f.number(), f.number()
	w.failures, w.idle = int(min(f.number(), math.MaxInt32)), f.milliseconds()
	return w
}

// parseLegacy reads what bytes has made.
func parseLegacy(b []byte) (s legacyState, err error) {
	f := fields{rest: b, what: errLegacy}
	if version := f.number(); f.err == nil && version != legacyVersion {
		return s, fmt.Errorf("%w: it has version %d, this process reads %d", errLegacy, version, legacyVersion)
	}
	for range f.count() {
		s.writers = append(s.writers, f.legacyWriter())
	}
	for range f.count() {
		session := legacySession{inode: f.fixed(), writer: f.legacyWriter()}
		session.limit, session.silence, session.beat = f.number(), f.milliseconds(), f.milliseconds()
		s.sessions = append(s.sessions, session)
	}
	if err := f.end(); err != nil {
		return legacyState{}, err
	}
	return s, nil
}

// name reads a length and a name.
func (f *fields) name() string {
	length := f.number()
	if length > maxLegacyNames {
		f.err = fmt.Errorf("%w: a name of %d bytes, the limit is %d", f.what, length, maxLegacyNames)
	}
	return string(f.take(int(min(length, maxLegacyNames))))
}

// count reads how many of something follow, each of at least a byte.
func (f *fields) count() int {
	n := f.number()
	if n > uint64(len(f.rest)) && f.err == nil {
		f.err = fmt.Errorf("%w: %d entries in %d bytes", f.what, n, len(f.rest))
	}
	if f.err != nil {
		return 0
	}
	return int(n)
}

// fixed reads a number of eight bytes.
func (f *fields) fixed() uint64 {
	if b := f.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}
