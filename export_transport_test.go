// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what the tests of a connection see of it.

import (
	"errors"
	"net"
	"time"
)

// What an inbound connection returns that is no error for a user.
var (
	ErrOpening  = errSessionPreface
	ErrEnded    = errGracefulEnd
	ErrNoSpace  = errNoMemory
	ErrHandOver = errHandOver
	ErrHolding  = errHoldsMemory
)

// FreeSize is the size of a buffer that costs nothing.
const FreeSize = uncountedSize

// A Memory is a limit on read buffers that does what a test says.
type Memory struct {
	Left    int64
	Waits   bool // Others wait.
	Granted chan struct{}
	Cancels int
}

func (m *Memory) TryReserve(l *reservation, size int) bool {
	if more := countedSize(size) - l.bytes; more <= m.Left {
		m.Left -= more
		l.bytes += more
		return true
	}
	return false
}

func (m *Memory) Reserve(l *reservation, size int) <-chan struct{} {
	l.ticket = 7
	if m.Granted == nil {
		m.Granted = make(chan struct{})
	}
	l.bytes = countedSize(size)
	return m.Granted
}

func (m *Memory) Cancel(*reservation)                 { m.Cancels++ }
func (m *Memory) Release(l *reservation, bytes int64) { m.Left += bytes; l.bytes -= bytes }
func (m *Memory) Contested() bool                     { return m.Waits }

// InLimits are what an In puts up with.
type InLimits struct {
	Message                   uint64
	Read                      int
	Idle, FirstMessage, Frame time.Duration
	Inherited                 bool
}

// An In is a connection that is read from.
type In struct{ in *inbound }

func NewIn(conn net.Conn, l InLimits, memory *Memory) In {
	return In{newInbound(conn, inLimits{
		maxMessageSize: l.Message, readSize: l.Read, idleTimeout: l.Idle, firstMessageTimeout: l.FirstMessage,
		messageTimeout: l.Frame, inherited: l.Inherited,
	}, memory)}
}

func (i In) Fill() error                             { return i.in.fill() }
func (i In) Next() (data []byte, ok bool, err error) { return i.in.next() }
func (i In) Midway() int                             { return i.in.partialBytes() }
func (i In) Skipping() uint64                        { return i.in.skipping() }
func (i In) WholeMessages() uint64                   { return i.in.wholeMessages() }
func (i In) Received() uint64                        { return i.in.received() }
func (i In) KeepOpenIf(busy func() bool)             { i.in.keepOpenIf(busy) }
func (i In) LimitTo(deadline time.Time) error        { return i.in.setUserDeadline(deadline) }
func (i In) RequestClose(reason uint64)              { i.in.requestClose(closeReason(reason)) }
func (i In) Reject(reason uint64)                    { i.in.reject(closeReason(reason)) }
func (i In) Halt()                                   { i.in.halt() }
func (i In) AnswerEnd()                              { i.in.replyToEnd() }
func (i In) Farewell()                               { i.in.sendReport() }
func (i In) RequestHandOver()                        { i.in.requestHandOver() }
func (i In) HandOverError() error                    { return i.in.handOverError() }
func (i In) Suspend() int                            { return i.in.releaseForPause() }
func (i In) Release()                                { i.in.releaseBuffer() }
func (i In) Close()                                  { i.in.close() }
func (i In) States() (closing, halted, acks bool) {
	return i.in.isClosing(), i.in.isHalted(), i.in.isAcknowledged()
}
func (i In) Hello() (h Hello, whole bool, err error) {
	parsed, whole, err := i.in.hello()
	return Hello{WriterID(parsed.writer), parsed.epoch, parsed.firstSeq, parsed.lastSentSeq, parsed.heartbeatTimeout}, whole, err
}

// Acknowledged is how many messages the writer was told of.
func (i In) Acknowledged() uint64 { return i.in.counted().acknowledged }

// A Buffered is what the buffer of an In looks like.
type Buffered struct {
	Size, From, To int // 0 without one.
	Loan           int64
	Need           int
}

func (i In) Buffered() Buffered {
	b := &i.in.input
	s := Buffered{From: b.r, To: b.w, Loan: b.reserved.bytes, Need: b.wantBytes}
	if b.buf != nil {
		s.Size = len(b.buf.b)
	}
	return s
}

// A Session is the reader's end of one.
type Session struct{ s *ackSender }

func (i In) Begin(handled, mayRepeat uint64, beat, silence time.Duration) Session {
	return Session{i.in.beginSession(handled, mayRepeat, beat, silence)}
}

func (s Session) Welcome()       { s.s.sendWelcome() }
func (s Session) Busy()          { s.s.beforeBatch() }
func (s Session) Count()         { s.s.beforeMessage() }
func (s Session) Idle()          { s.s.afterBatch() }
func (s Session) Acknowledge()   { s.s.acknowledge() }
func (s Session) Failed()        { s.s.markFailed() }
func (s Session) Handled()       { s.s.markHandled() }
func (s Session) Repeated() bool { return s.s.mayRepeat() && s.s.isRedelivered() }
func (s Session) Seq() uint64    { return s.s.seq() }
func (s Session) Close() error   { return s.s.close() }

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
	return &Waits{waits{idleTimeout: idle, heartbeatTimeout: silence, firstMessageTimeout: first, messageTimeout: frame, startedAt: time.Now()}}
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

// An Out is a connection that is written to.
type Out struct{ o *outbound }

func NewOut(conn net.Conn, timeout time.Duration) Out { return Out{newOutbound(conn, timeout)} }

func (o Out) Write(bufs ...[]byte) (int, error)           { return o.o.write(bufs) }
func (o Out) Completed(messages int)                      { o.o.completed(messages) }
func (o Out) Watch(wake func())                           { o.o.readLoop(wake) }
func (o Out) Watched()                                    { o.o.waitReadLoop() }
func (o Out) IsLeaving() bool                             { return o.o.isWriteStopped() }
func (o Out) Failures(before int) int                     { return o.o.failuresAfter(before) }
func (o Out) AfterTimeout(n int, err error) (bool, error) { return o.o.afterTimeout(n, err) }
func (o Out) Poke()                                       { o.o.interruptWrite() }
func (o Out) SayAlive() error                             { return o.o.sendHeartbeat() }
func (o Out) Settled() uint64                             { return o.o.read.confirmed }
func (o Out) Settle() bool                                { return o.o.confirmAllRead() }
func (o Out) Consumed(first int64) bool                   { return o.o.peerHasRead(first) }
func (o Out) Arrived() bool                               { return o.o.allArrived() }
func (o Out) AllRead() bool                               { return o.o.allRead() }
func (o Out) HeartbeatInterval() time.Duration            { return o.o.heartbeatInterval() }
func (o Out) Close()                                      { o.o.close() }

// An Ending is what is known of a connection that has ended.
type Ending struct {
	Lost, Unread  uint64
	Cause         error
	Reason, Limit uint64
	Told          bool
}

func (o Out) Finish(writeErr error, abort <-chan struct{}) Ending {
	e := o.o.closeAndAccount(writeErr, abort)
	return Ending{e.lost, e.unread, e.cause, uint64(e.reason), e.readerLimit, e.reported}
}

// A Greeting is what Greet needs.
type Greeting struct {
	Silence, Patience time.Duration
	Acknowledge       func(uint64) (early bool, err error)
	Waiting           func()
	GiveUp            func() bool
}

func (o Out) Greet(h Hello, g Greeting) (Welcome, error) {
	w, err := o.o.sessionHandshake(hello{writer: id(h.Writer), epoch: h.Attempt, firstSeq: h.First, lastSentSeq: h.Sent, heartbeatTimeout: h.Silence},
		handshakeHooks{heartbeatTimeout: g.Silence, acknowledge: g.Acknowledge, slowAfter: g.Patience, onSlow: g.Waiting, cancelled: g.GiveUp})
	return Welcome{uint64(w.status), w.handled, w.limit, w.heartbeatTimeout}, err
}

// ReadMarks says what is settled after each of these writes, of bytes and messages in all.
func ReadMarks(window int64, writes ...[2]int64) (settled []uint64) {
	r := readMarks{maxUnread: window}
	for _, w := range writes {
		r.advance(w[0], uint64(w[1]))
		settled = append(settled, r.confirmed)
	}
	return settled
}

// Oversize is what an error about a message that is too large knows of it.
func Oversize(err error) (o struct {
	Size, Limit uint64
	Head        []byte
}) {
	var large *tooLargeError
	if errors.As(err, &large) {
		o.Size, o.Limit, o.Head = large.Size, large.Limit, large.Head
	}
	return o
}
