// SPDX-License-Identifier: Apache-2.0

package transport

// This file is all that the tests see of what is private.

import (
	"net"
	"time"

	"github.com/udsipc/udsipc/internal/wire"
)

// ErrHoldsMemory is why a message is not waited for any longer, if others wait for memory.
var ErrHoldsMemory = errHoldsMemory

// A Buffered is what the buffer of an In looks like.
type Buffered struct {
	Size, From, To int // 0 without one.
	Loan           int64
	Need           int
}

func (in *In) Buffered() Buffered {
	b := &in.input
	s := Buffered{From: b.r, To: b.w, Loan: b.reserved.Bytes, Need: b.wantBytes}
	if b.buf != nil {
		s.Size = len(b.buf.B)
	}
	return s
}

// Session returns the acknowledgements of a session.
func (in *In) Session() *AckSender { return in.session }

// A ReadState is how far a connection is when it waits, and Waits are what it may wait for.
type (
	ReadState struct {
		Received, Refused, Skip     uint64
		Partial                     int
		Untried, Holding, Contested bool
	}
	Waits struct{ w waits }
)

func NewWaits(idle, silence, first, frame time.Duration) *Waits {
	return &Waits{waits{
		idleTimeout: idle, heartbeatTimeout: silence, firstMessageTimeout: first,
		messageTimeout: frame, startedAt: time.Now(),
	}}
}

func (w *Waits) TooLong(s ReadState) (after time.Duration, reason error) {
	deadline := w.w.waitDeadline(time.Now(), readState{
		received: s.Received, skippedFrames: s.Refused, skipBytes: s.Skip, partial: s.Partial,
		isNewPlain: s.Untried, holding: s.Holding, contested: s.Contested,
	})
	if deadline.IsZero() {
		return -1, w.w.timeoutErr
	}
	return time.Until(deadline), w.w.timeoutErr
}

// Over ends the present wait.
func (w *Waits) Over() { w.w.waitStart = time.Time{} }

// Restart begins all of them anew.
func (w *Waits) Restart() { w.w.restart() }

func (o *Out) InterruptWrite()      { o.interruptWrite() }
func (o *Out) Confirmed() uint64    { return o.read.confirmed }
func (o *Out) ConfirmAllRead() bool { return o.confirmAllRead() }
func (o *Out) AllArrived() bool     { return o.allArrived() }

// ReadMarks says what is confirmed after each of these writes, of bytes and messages in all.
// recent is where the recent messages begin in the end.
func ReadMarks(window int64, writes ...[2]int64) (confirmed []uint64, recent uint64) {
	r := readMarks{maxUnread: window}
	for _, w := range writes {
		r.advance(w[0], uint64(w[1]))
		confirmed = append(confirmed, r.confirmed)
	}
	return confirmed, r.prevCheckpoint.messages
}

// LastWords is what a Writer makes of b, which its reader sent in pieces of size bytes.
func LastWords(b []byte, size int) (heard bool, report wire.CloseReport, foreign bool) {
	var l goodbyeReader
	for len(b) > 0 {
		n := copy(l.free(), b[:min(size, len(b))])
		heard = l.add(n) || heard
		b = b[n:]
	}
	return heard, l.report, l.notProtocol
}

// HasRead says whether the peer of conn has read everything, as far as the kernel can tell.
func HasRead(conn net.Conn) bool {
	_, raw := kindOf(conn)
	bytes, ok := unread(raw)
	return !ok || bytes == 0
}

// What a side that ends a connection may ask of it, and how it waits for TLS.
var (
	IsTLS          = isTLS
	WroteTLS       = wroteTLS
	AwaitTLSRecord = awaitTLSRecord
	ErrNotTLS      = errNotTLS
)

// CanTellUnread says that the kernel knows what a peer has read.
const CanTellUnread = canTellUnread

// The steps of a read: room for what comes, so many bytes that came, and that were handed over.
func (in *In) EnsureBuffer(message uint64) bool { return in.input.ensureBuffer(message) }
func (in *In) Arrive(n int)                     { in.input.w, in.input.lastRead = in.input.w+n, n }
func (in *In) Take(n int)                       { in.input.r += n }
func (in *In) WantBytes(n int)                  { in.input.wantBytes = n }
func (in *In) SetLastLength(n int)              { in.input.lastLength = n }
func (in *In) SetLargeFrameSize(n int)          { in.input.largeFrameSize = n }
func (in *In) ShrinkForWait()                   { in.input.shrinkForWait() }
func (in *In) ReadEnd() int                     { return in.input.readEnd() }
func (in *In) FrameEnd() int                    { return in.input.frameEnd() }
func (in *In) IsEnding() bool                   { return in.isEnding() }
func (in *In) Pause()                           { in.pause() } // As if it could be handed over.
func (in *In) Bytes() []byte                    { return in.input.buf.B[:cap(in.input.buf.B)] }

// MaxUnread is how much may lie unread; 0 if the kernel does not tell.
func (o *Out) MaxUnread() int64 { return o.read.maxUnread }

func (o *Out) Probe(at time.Time) { o.probe(at) }
func (o *Out) ReportsSlow() bool  { return o.stall.timer != nil }
func (o *Out) IsResumable() bool  { return o.resumable() }
func (o *Out) IsTLS() bool        { return o.isTLS() }

// LateTimers has the timers of a session fire now, and returns whether each is set after that.
func (s *AckSender) LateTimers() (ack, heartbeat bool) {
	s.ackOnTimer()
	s.sendHeartbeat()
	return s.ackTimer.Stop(), s.heartbeatTimer.Stop()
}

// StopTimers stops the timers of a session, and returns whether each was set.
func (s *AckSender) StopTimers() (ack, heartbeat bool) {
	return s.ackTimer.Stop(), s.heartbeatTimer.Stop()
}
