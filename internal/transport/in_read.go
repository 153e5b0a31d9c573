// SPDX-License-Identifier: Apache-2.0

package transport

// This file reads from a receiving connection: it waits without a buffer, and reads into one.

import (
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/errdefs"
)

// An attempt is one attempt to read.
type attempt struct {
	tryFunc       func(fd uintptr) bool // tryRead, bound once.
	attemptMissed bool                  // The attempt before was not made, because its deadline had passed.
	attempted     bool
	n             int
	err           error
	bufferFilled  bool // The last read filled its buffer, so that a larger one pays; otherConn only.
}

// Fill waits for bytes and reads them. The error is io.EOF at the end of the stream, a timeout when
// nothing came for too long, HeartbeatTimeout when not even a heartbeat came, TooSlow when the rest
// of a message did not, or ErrGracefulEnd when the end was decided on: at once, or when the time to end
// gracefully is over. ErrHandOver means that the connection is at the boundary of a message, from
// where the next process goes on.
func (in *In) Fill() error {
	in.wait.waitStart, in.attempt.attemptMissed = time.Time{}, false
	for {
		if in.end.halted.Load() || in.end.closing.Load() && in.gracePeriodOver() {
			return ErrGracefulEnd
		}
		if in.handOver.requested.Load() && !in.end.closing.Load() {
			if in.atFrameBoundary() {
				in.input.shrinkForWait() // Others may need the memory to complete their messages.
				return ErrHandOver
			}
			in.beginHandOver()
		}
		err := in.read()
		in.end.grace.waitEnded(in.attempt.attempted && IsTimeout(err))
		switch {
		case err == nil:
			in.input.lastRead = in.attempt.n
			in.counts.receivedBytes.Add(uint64(in.attempt.n))
			return nil
		case err == errNoMemory && in.waitForMemory():
			continue
		case err == errNoMemory && in.userDeadlinePassed():
			return os.ErrDeadlineExceeded
		case err == errNoMemory:
			return ErrGracefulEnd
		case err == io.EOF:
			in.end.sawEOF = true
			if in.end.closing.Load() {
				in.SendReport() // A write that was refused midway leaves a Writer in doubt otherwise.
			}
			return err
		case !IsTimeout(err):
			return err
		case in.userDeadlinePassed():
			return err
		case in.attempt.attempted && !in.isEnding() && in.waitDeadlinePassed() && !in.inUse():
			return errdefs.First(in.wait.timeoutErr, err)
		}
		in.expireHandOver()
		// The deadline is that of an earlier wait, or of RequestClose, or it passed before the
		// attempt.
		in.attempt.attemptMissed = !in.attempt.attempted
		if err := in.setWaitDeadline(); err != nil {
			return err
		}
	}
}

// read makes one attempt, which waits if it must.
func (in *In) read() error {
	in.attempt.attempted = false
	if in.raw == nil {
		return in.readAny()
	}
	if err := in.raw.Read(in.attempt.tryFunc); err != nil {
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
func (in *In) tryRead(fd uintptr) bool {
	in.attempt.attempted = true
	if !in.input.ensureBuffer(in.counts.received.Load() + 1) {
		in.attempt.err = errNoMemory
		return true
	}
	in.attempt.n, in.attempt.err = readDescriptor(fd, in.input.buf.B[in.input.w:in.readEnd()])
	in.counts.reads.Add(1)
	if !errors.Is(in.attempt.err, syscall.EAGAIN) {
		return true
	}
	in.SendAck()
	in.input.shrinkForWait()
	in.attempt.err = in.setWaitDeadline()
	return in.attempt.err != nil
}

// readAny reads from a connection that offers no way to wait without a buffer: a small one has to
// do until it turns out to be too small. A read may wait, so what is handled is acknowledged before
// each, and no large buffer is held for a few bytes.
func (in *In) readAny() error {
	in.SendAck()
	if err := in.setWaitDeadline(); err != nil {
		return err
	}
	if !in.input.justGranted && (!in.attempt.bufferFilled || in.input.isHalfEmpty()) {
		in.attempt.bufferFilled = false
		in.input.shrinkForWait()
		if in.input.buf == nil {
			in.input.buf, in.input.r, in.input.w = buffers.Get(buffers.MinSize), 0, 0
		}
	}
	in.attempt.attempted = true
	if (in.attempt.bufferFilled || in.input.w == len(in.input.buf.B)) && !in.input.ensureBuffer(in.counts.received.Load()+1) {
		return errNoMemory
	}
	in.input.justGranted = false
	var err error
	in.attempt.n, err = in.conn.Read(in.input.buf.B[in.input.w:in.readEnd()])
	in.counts.reads.Add(1)
	in.attempt.bufferFilled = in.input.w+in.attempt.n == len(in.input.buf.B)
	in.input.w += in.attempt.n
	if in.attempt.n > 0 {
		return nil // An error will come again.
	}
	return err
}

// SendAck acknowledges, before a wait, what is handled.
func (in *In) SendAck() {
	if in.session != nil {
		in.session.acknowledge()
	}
}

// readEnd is how far the buffer may be filled.
func (in *In) readEnd() int {
	if in.handOver.requested.Load() && !in.end.closing.Load() {
		return in.input.frameEnd()
	}
	return in.input.readEnd()
}
