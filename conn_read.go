// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the receiving direction of one connection: waiting without a buffer, and decoding in
// place. conn_buffer.go is the buffer, conn_wait.go how long it waits and how it ends.

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// An inbound connection belongs to the goroutine that reads it, but for requestClose.
type inbound struct {
	conn    net.Conn
	kind    connKind
	raw     syscall.RawConn // nil for otherConn.
	limit   uint64          // The largest message.
	bufSize int             // The size of a read.
	idle    time.Duration   // 0: for ever.
	session *inSession      // nil without one.
	silence time.Duration   // In a session, the longest that the writer may say nothing; 0 for any.
	first   time.Duration   // From the beginning to the end of the first message; 0 for any.
	frame   time.Duration   // From the first byte of a message to its last; 0 for any.
	began   time.Time
	resumed bool        // An earlier process has read from it.
	heads   bool        // Of a message over the limit, the beginning is wanted.
	busy    func() bool // Asked before the end for inactivity; nil for no.
	counts  connCounts

	// buf.b[r:w] was read and is not handed over yet. While the connection waits for bytes, buf is
	// nil or as small as what it holds.
	buf     *buffer
	memory  memoryLimit
	loan    loan   // For buf.
	turnOf  uint64 // The message that has waited for memory last, as received counts it.
	granted bool   // It has just got some, and nothing was read since.
	r, w    int
	need    int    // The size of the frame at r, as far as it is known; more than w-r bytes.
	skip    uint64 // Bytes of a refused frame that are still to come.
	refused uint64 // Frames that are, or were, passed over.
	usual   int    // The size of the last frame, if that was larger than bufSize.
	brought int    // What the last read brought.
	last    int    // The length of the last message that was handed over.

	// One attempt to read.
	try    func(fd uintptr) bool // tryRead, bound once.
	missed bool                  // The attempt before was not made, because its deadline had passed.
	tried  bool
	n      int
	err    error
	filled bool // The last read filled its buffer, so that a larger one pays; otherConn only.

	// The wait of fill: since when. A deadline that comes in between, and is not the end, does not begin it anew.
	waitAt time.Time

	// The wait of a session: when the last message came, as far as that was looked at, and which.
	lastAt  time.Time
	lastWas uint64

	// The wait for the rest of a message: since when, and which one. And what a wait that lasts too
	// long means; nil for inactivity.
	frameAt  time.Time
	frameWas uint64
	reason   error

	// The end.
	replays  atomic.Bool   // In a session: what is not handled comes again.
	gone     chan struct{} // Closed when it is at an end, or will be at once.
	stirred  chan struct{} // One slot: handing or limited was set.
	goneOnce sync.Once
	halted   atomic.Bool           // At once: what is buffered is not handled either.
	closing  atomic.Bool           // Gracefully: no longer than it takes to handle what the peer has sent.
	said     bool                  // The goodbye was said.
	reported bool                  // The report was sent, or need not be.
	sawEnd   bool                  // The peer has ended its side, and everything was read.
	skipped  uint64                // Messages over the limit that were passed over.
	grace    grace                 // The time that is left after the goodbye.
	mu       sync.Mutex            // Guards the read deadline and what follows.
	greeting bool                  // The TLS handshake is not done.
	handing  atomic.Bool           // The next process is to have it, from the next boundary of a message on.
	handEnd  time.Time             // When to wait for that no longer. The reading goroutine's own.
	unfit    atomic.Pointer[error] // Why the next process does not get it.
	limited  time.Time             // Of a Conn: its reader's own deadline; zero for none.
	armed    time.Time             // When the last wait would have lasted too long, without that; zero for never.
	shut     bool                  // The kernel refuses the peer's writes; end of file will come.
	why      endReason             // Why it is closing.
}

// tooLargeHead is how much of a message over the limit a tooLargeError has.
const tooLargeHead = 32

// The smallest buffer has room for it. No constant of type uint64 is negative.
const _ = uint64(minBufferSize - tooLargeHead - maxHeaderSize)

// inLimits are what a receiving connection puts up with, and what is known of it at the beginning.
type inLimits struct {
	maxMessageSize      uint64
	readSize            int           // Of a read, in bytes.
	idleTimeout         time.Duration // 0: for ever.
	firstMessageTimeout time.Duration // From the beginning to the end of the first message; 0 for any.
	messageTimeout      time.Duration // From the first byte of a message to its last; 0 for any.
	inherited           bool          // An earlier process has read from it.
}

// newInbound takes over conn.
func newInbound(conn net.Conn, limits inLimits, memory memoryLimit) *inbound {
	in := &inbound{
		conn: conn, limit: limits.maxMessageSize, resumed: limits.inherited,
		idle: limits.idleTimeout, first: limits.firstMessageTimeout, frame: limits.messageTimeout,
		began: time.Now(), memory: memory, gone: make(chan struct{}), stirred: make(chan struct{}, 1),
	}
	in.bufSize = 1 << bufferClass(limits.readSize)
	in.kind, in.raw = inspect(conn)
	_, in.greeting = conn.(*tls.Conn)
	if !canTryRead {
		in.raw = nil
	}
	in.try = in.tryRead
	return in
}

// deliver hands every whole message that is buffered to handle, in order and without a copy: data is
// valid until handle returns. The message counts as handed over before that, so that deliver may be
// called again after a panic. The errors are those of next.
func (in *inbound) deliver(handle func(data []byte)) error {
	for {
		data, ok, err := in.next()
		if !ok {
			return err
		}
		handle(data)
	}
}

// next returns the next whole message that is buffered, without a copy: data is valid until something is read. It says
// no if there is none. A message over the limit is an error; calling again goes on behind it. errOpening means that a
// session begins.
func (in *inbound) next() (data []byte, ok bool, err error) {
	for in.r < in.w && !in.halted.Load() {
		if in.skip > 0 {
			n := min(in.skip, uint64(in.w-in.r))
			in.r += int(n)
			if in.skip -= n; in.skip == 0 {
				in.skipped++
			}
			continue
		}
		b := in.buf.b[in.r:in.w]
		length, header, err := parseHeader(b)
		switch {
		case err != nil && in.fresh() && opens(b):
			return nil, false, errOpening
		case err != nil:
			return nil, false, err
		case header == 0:
			in.need = 0
			return nil, false, nil
		case length == 0 && header > 1 && in.session != nil:
			in.r += header // A heartbeat.
			continue
		case length > in.limit && in.heads && len(b)-header < tooLargeHead && uint64(len(b)-header) < length:
			in.need = header + int(min(length, tooLargeHead))
			return nil, false, nil
		case length > in.limit && in.heads:
			in.need = 0
			head := b[header:min(len(b), header+tooLargeHead)]
			err := &tooLargeError{Size: length, Limit: in.limit, Head: slices.Clone(head[:min(uint64(len(head)), length)])}
			in.passOver(header, length)
			return nil, false, err
		case length > in.limit:
			in.need = 0
			in.passOver(header, length)
			return nil, false, overLimit(length, in.limit)
		}
		end := header + int(length)
		if end > len(b) {
			in.need = end
			return nil, false, nil
		}
		if in.usual = 0; end > in.bufSize && end <= maxBufferSize { // A larger buffer is not pooled.
			in.usual = end
		}
		in.r += end
		in.last = int(length)
		in.counts.received.Add(1)
		return b[header:end:end], true, nil
	}
	in.need = 0
	return nil, false, nil
}

// passOver has next go on behind the frame at r.
func (in *inbound) passOver(header int, length uint64) {
	in.refused++
	if in.skip = uint64(header) + length; in.skip < length {
		in.skip = length // Near 2^64: nobody lives to see the end of it.
	}
}

// fresh says whether nothing has come but what is buffered.
func (in *inbound) fresh() bool {
	return in.session == nil && !in.resumed && in.counts.received.Load() == 0 && in.skip == 0 && in.counts.receivedBytes.Load() == uint64(in.w-in.r)
}

// fill waits for bytes and reads them. The error is io.EOF at the end of the stream, a timeout when
// nothing came for too long, errPeerSilent when not even a heartbeat came, errTooSlow when the rest of a
// message did not, or errEnded when the end was decided on: at once, or when the time to end gracefully
// is over. errHandOver means that the connection is at the boundary of a message, from where the next process
// goes on.
func (in *inbound) fill() error {
	in.waitAt, in.missed = time.Time{}, false
	for {
		if in.halted.Load() || in.closing.Load() && in.over() {
			return errEnded
		}
		if in.handing.Load() && !in.closing.Load() {
			if in.atRest() {
				in.park() // Others may need the memory to come to rest.
				return errHandOver
			}
			in.beginHandOver()
		}
		err := in.read()
		in.grace.waitEnded(in.tried && isTimeout(err))
		switch {
		case err == nil:
			in.brought = in.n
			in.counts.receivedBytes.Add(uint64(in.n))
			return nil
		case err == errNoSpace && in.awaitSpace():
			continue
		case err == errNoSpace && in.pastLimit():
			return os.ErrDeadlineExceeded
		case err == errNoSpace:
			return errEnded
		case err == io.EOF:
			in.sawEnd = true
			if in.closing.Load() {
				in.farewell() // A write that was refused midway leaves a Writer in doubt otherwise.
			}
			return err
		case !isTimeout(err):
			return err
		case in.pastLimit():
			return err
		case in.tried && !in.closing.Load() && !in.halted.Load() && !in.handing.Load() && in.pastArmed() && !in.inUse():
			return firstError(in.reason, err)
		}
		in.tooLate()
		// The deadline is that of an earlier wait, or of requestClose, or it passed before the attempt.
		in.missed = !in.tried
		if err := in.arm(); err != nil {
			return err
		}
	}
}

// read makes one attempt, which waits if it must.
func (in *inbound) read() error {
	in.tried = false
	if in.raw == nil {
		return in.readAny()
	}
	if err := in.raw.Read(in.try); err != nil {
		return err
	}
	switch {
	case in.err != nil:
		return in.err
	case in.n == 0:
		return io.EOF
	}
	in.w += in.n
	return nil
}

// tryRead reads from a socket if that has bytes. If not, it gets ready to wait for them: the buffer
// goes back to the pool, and the deadline is set. It is called by RawConn.Read, which does the
// waiting; no other wait has so little in hand (net, syscall.RawConn).
func (in *inbound) tryRead(fd uintptr) bool {
	in.tried = true
	if !in.space() {
		in.err = errNoSpace
		return true
	}
	in.n, in.err = readDescriptor(fd, in.buf.b[in.w:in.ceiling()])
	in.counts.reads.Add(1)
	if !errors.Is(in.err, syscall.EAGAIN) {
		return true
	}
	in.tellHandled()
	in.park()
	in.err = in.arm()
	return in.err != nil
}

// readAny reads from a connection that offers no way to wait without a buffer: a small one has to do
// until it turns out to be too small. A read may wait, so what is handled is acknowledged before each,
// and no large buffer is held for a few bytes.
func (in *inbound) readAny() error {
	in.tellHandled()
	if err := in.arm(); err != nil {
		return err
	}
	if have := in.w - in.r; !in.granted && (!in.filled || len(in.buf.b) > freeSize && have < len(in.buf.b)/2) {
		in.filled = false
		in.park()
		if in.buf == nil {
			in.buf, in.r, in.w = getBuffer(minBufferSize), 0, 0
		}
	}
	in.tried = true
	if (in.filled || in.w == len(in.buf.b)) && !in.space() {
		return errNoSpace
	}
	in.granted = false
	var err error
	in.n, err = in.conn.Read(in.buf.b[in.w:in.ceiling()])
	in.counts.reads.Add(1)
	in.filled = in.w+in.n == len(in.buf.b)
	in.w += in.n
	if in.n > 0 {
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
