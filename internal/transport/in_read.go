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

// Fill waits for bytes and reads them. Its errors: io.EOF at the end of the stream; a timeout after
// inactivity; HeartbeatTimeout without a heartbeat; TooSlow for an incomplete message.
// ErrGracefulEnd means that this side has closed the connection, or that the grace period is over.
// ErrHandOver means that the connection is paused at a frame boundary for the next process.
// ErrGathered means that gathered messages (in_batch.go) must be taken now.
func (in *In) Fill() error {
	in.wait.waitStart, in.attempt.attemptMissed = time.Time{}, false
	for {
		if in.end.halted.Load() {
			return ErrGracefulEnd
		}
		if in.gathered.messages > 0 && in.isEnding() {
			return ErrGathered
		}
		if in.end.closing.Load() && in.gracePeriodOver() {
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
			if in.end.closing.Load() && in.gathered.messages == 0 { // Those are handled before the report.
				// Otherwise a Writer whose write was cut short cannot know what was read.
				in.SendReport()
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

// tryRead reads from a socket if it has bytes. If not, it prepares the wait: the buffer goes back
// to the pool, and the deadline is set. RawConn.Read calls it and does the waiting. No other wait
// needs so little memory (net, syscall.RawConn).
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

// readAny reads from a connection that cannot wait without a buffer. It starts with a small buffer.
// A read may wait: so it acknowledges handled messages before each, and holds no large buffer for a
// few bytes.
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
	if (in.attempt.bufferFilled || in.input.w == len(in.input.buf.B)) &&
		!in.input.ensureBuffer(in.counts.received.Load()+1) {
		return errNoMemory
	}
	in.input.justGranted = false
	var err error
	end := in.readEnd()
	in.attempt.n, err = in.conn.Read(in.input.buf.B[in.input.w:end])
	in.counts.reads.Add(1)
	in.attempt.bufferFilled = in.input.w+in.attempt.n == end
	in.input.w += in.attempt.n
	if in.attempt.n > 0 {
		return nil // The next read returns the error.
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
	// Bytes of a message over the limit that are not buffered.
	skip := in.oversize.skipBytes - min(in.oversize.skipBytes, uint64(in.PartialBytes()))
	switch {
	case !in.handOver.requested.Load() || in.end.closing.Load():
		return in.input.readEnd()
	case skip > 0:
		return in.input.w + int(min(skip, uint64(len(in.input.buf.B)-in.input.w)))
	}
	return in.input.frameEnd()
}
