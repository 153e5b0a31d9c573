// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file reads from a receiving connection: it waits without a buffer, and reads into one.

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"
)

// An attempt is one attempt to read.
type attempt struct {
	try    func(fd uintptr) bool // tryRead, bound once.
	missed bool                  // The attempt before was not made, because its deadline had passed.
	tried  bool
	n      int
	err    error
	filled bool // The last read filled its buffer, so that a larger one pays; otherConn only.
}

// fill waits for bytes and reads them. The error is io.EOF at the end of the stream, a timeout when
// nothing came for too long, errPeerSilent when not even a heartbeat came, errTooSlow when the rest
// of a message did not, or errEnded when the end was decided on: at once, or when the time to end
// gracefully is over. errHandOver means that the connection is at the boundary of a message, from
// where the next process goes on.
func (in *inbound) fill() error {
	in.wait.waitAt, in.attempt.missed = time.Time{}, false
	for {
		if in.end.halted.Load() || in.end.closing.Load() && in.over() {
			return errEnded
		}
		if in.handOver.requested.Load() && !in.end.closing.Load() {
			if in.atRest() {
				in.input.park() // Others may need the memory to come to rest.
				return errHandOver
			}
			in.beginHandOver()
		}
		err := in.read()
		in.end.grace.waitEnded(in.attempt.tried && isTimeout(err))
		switch {
		case err == nil:
			in.input.brought = in.attempt.n
			in.counts.receivedBytes.Add(uint64(in.attempt.n))
			return nil
		case err == errNoSpace && in.awaitSpace():
			continue
		case err == errNoSpace && in.pastLimit():
			return os.ErrDeadlineExceeded
		case err == errNoSpace:
			return errEnded
		case err == io.EOF:
			in.end.sawEnd = true
			if in.end.closing.Load() {
				in.farewell() // A write that was refused midway leaves a Writer in doubt otherwise.
			}
			return err
		case !isTimeout(err):
			return err
		case in.pastLimit():
			return err
		case in.attempt.tried && !in.isEnding() && in.pastArmed() && !in.inUse():
			return firstError(in.wait.reason, err)
		}
		in.tooLate()
		// The deadline is that of an earlier wait, or of requestClose, or it passed before the
		// attempt.
		in.attempt.missed = !in.attempt.tried
		if err := in.arm(); err != nil {
			return err
		}
	}
}

// read makes one attempt, which waits if it must.
func (in *inbound) read() error {
	in.attempt.tried = false
	if in.raw == nil {
		return in.readAny()
	}
	if err := in.raw.Read(in.attempt.try); err != nil {
		return err
	}
	switch {
	case in.attempt.err != nil:
		return in.attempt.err
	case in.attempt.n == 0:
		return io.EOF
	}
	in.input.w += in.attempt.n
	return nil
}

// tryRead reads from a socket if that has bytes. If not, it gets ready to wait for them: the buffer
// goes back to the pool, and the deadline is set. It is called by RawConn.Read, which does the
// waiting; no other wait has so little in hand (net, syscall.RawConn).
func (in *inbound) tryRead(fd uintptr) bool {
	in.attempt.tried = true
	if !in.input.space(in.counts.received.Load() + 1) {
		in.attempt.err = errNoSpace
		return true
	}
	in.attempt.n, in.attempt.err = readDescriptor(fd, in.input.buf.b[in.input.w:in.ceiling()])
	in.counts.reads.Add(1)
	if !errors.Is(in.attempt.err, syscall.EAGAIN) {
		return true
	}
	in.tellHandled()
	in.input.park()
	in.attempt.err = in.arm()
	return in.attempt.err != nil
}

// readAny reads from a connection that offers no way to wait without a buffer: a small one has to
// do until it turns out to be too small. A read may wait, so what is handled is acknowledged before
// each, and no large buffer is held for a few bytes.
func (in *inbound) readAny() error {
	in.tellHandled()
	if err := in.arm(); err != nil {
		return err
	}
	if !in.input.granted && (!in.attempt.filled || in.input.isHalfEmpty()) {
		in.attempt.filled = false
		in.input.park()
		if in.input.buf == nil {
			in.input.buf, in.input.r, in.input.w = getBuffer(minBufferSize), 0, 0
		}
	}
	in.attempt.tried = true
	if (in.attempt.filled || in.input.w == len(in.input.buf.b)) && !in.input.space(in.counts.received.Load()+1) {
		return errNoSpace
	}
	in.input.granted = false
	var err error
	in.attempt.n, err = in.conn.Read(in.input.buf.b[in.input.w:in.ceiling()])
	in.counts.reads.Add(1)
	in.attempt.filled = in.input.w+in.attempt.n == len(in.input.buf.b)
	in.input.w += in.attempt.n
	if in.attempt.n > 0 {
		return nil // An error will come again.
	}
	return err
}

// tellHandled acknowledges, before a wait, what is handled.
func (in *inbound) tellHandled() {
	if in.session != nil {
		in.session.acknowledge()
	}
}

// ceiling is how far the buffer may be filled.
func (in *inbound) ceiling() int {
	if in.handOver.requested.Load() && !in.end.closing.Load() {
		return in.input.frameCeiling()
	}
	return in.input.ceiling()
}
