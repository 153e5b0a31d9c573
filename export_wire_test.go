// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what the tests of the wire format see of it.

import (
	"time"
)

var (
	AppendFrame   = appendFrame
	ParseHeader   = parsePrefix
	WholeFrames   = wholeFrames
	FramesSize    = framesSize
	HeaderSize    = prefixSize
	FrameSize     = frameSize
	OpensSession  = hasPreface
	ErrVersion    = errVersion
	ErrLegacy     = errHandOverState
	MaxGreeting   = maxHandshakeBody
	SessionOpens  = sessionPreface
	SessionLives  = heartbeat
	SessionEnds   = goodbye
	WelcomeStatus = func(n uint64) string { return welcomeStatus(n).String() }
)

// BeatsPerSilence is how many heartbeats are sent in the time in which one must arrive.
const BeatsPerSilence = heartbeatsPerTimeout

// A Hello and a Welcome with their fields in the open.
type (
	Hello struct {
		Writer               WriterID
		Attempt, First, Sent uint64
		Silence              time.Duration
	}
	Welcome struct {
		Status, Handled, Limit uint64
		Silence                time.Duration
	}
)

// Bytes returns the opening and the hello.
func (h Hello) Bytes() []byte {
	return appendHello(nil, hello{writer: id(h.Writer), epoch: h.Attempt, firstSeq: h.First, lastSentSeq: h.Sent, heartbeatTimeout: h.Silence})
}

// Bytes returns the welcome.
func (w Welcome) Bytes() []byte {
	return appendWelcome(nil, welcome{status: welcomeStatus(w.Status), handled: w.Handled, limit: w.Limit, heartbeatTimeout: w.Silence})
}

func ParseHello(b []byte) (Hello, int, error) {
	h, size, err := parseHello(b)
	return Hello{Writer: WriterID(h.writer), Attempt: h.epoch, First: h.firstSeq, Sent: h.lastSentSeq, Silence: h.heartbeatTimeout}, size, err
}

func ParseWelcome(b []byte) (Welcome, int, error) {
	w, size, err := parseWelcome(b)
	return Welcome{Status: uint64(w.status), Handled: w.handled, Limit: w.limit, Silence: w.heartbeatTimeout}, size, err
}

// ParseBack is what a reader sends after the welcome.
var ParseBack = parseAck

// An EndReport is what a Reader says at the end.
type EndReport struct{ Reason, Next, Skipped, Limit uint64 }

func (r EndReport) internal() closeReport {
	return closeReport{reason: closeReason(r.Reason), firstUnread: r.Next, skipped: r.Skipped, limit: r.Limit}
}

// Bytes are the report as it is written.
func (r EndReport) Bytes() []byte { return appendReport(nil, r.internal()) }

// Lost is how many of so many messages the report says are lost.
func (r EndReport) Lost(written uint64) uint64 { return r.internal().lost(written) }

// Rejects says whether a Reader rejects the peer for this reason, and not a message.
func Rejects(reason uint64) bool { return closeReason(reason).rejectsPeer() }

// ParseReport reads a report.
func ParseReport(b []byte) (EndReport, int, error) {
	r, size, err := parseReport(b)
	return EndReport{uint64(r.reason), r.firstUnread, r.skipped, r.limit}, size, err
}

// A Legacy is what a Reader leaves for the next one, with its fields in the open.
type (
	Legacy struct {
		Writers  []LegacyWriter
		Sessions []LegacySession
	}
	LegacyWriter struct {
		Who                       string
		ID                        [16]byte
		Attempt, Handled, Repeats uint64
		Failures                  int
		Idle                      time.Duration
	}
	LegacySession struct {
		Inode         uint64
		Writer        LegacyWriter
		Limit         uint64
		Silence, Beat time.Duration
	}
)

func (w LegacyWriter) internal() writerSnapshot {
	return writerSnapshot{key: writerKey{identity: w.Who, writer: w.ID}, epoch: w.Attempt, handled: w.Handled, maybeHandledThrough: w.Repeats, failures: w.Failures, idle: w.Idle}
}

func (w writerSnapshot) open() LegacyWriter {
	return LegacyWriter{Who: w.key.identity, ID: w.key.writer, Attempt: w.epoch, Handled: w.handled, Repeats: w.maybeHandledThrough, Failures: w.failures, Idle: w.idle}
}

// Bytes is the state as it is stored.
func (l Legacy) Bytes() []byte {
	var s handOverState
	for _, w := range l.Writers {
		s.writers = append(s.writers, w.internal())
	}
	for _, c := range l.Sessions {
		s.sessions = append(s.sessions, sessionSnapshot{inode: c.Inode, writer: c.Writer.internal(), limit: c.Limit, heartbeatTimeout: c.Silence, heartbeatInterval: c.Beat})
	}
	return s.encode()
}

// ReadLegacy reads it again.
func ReadLegacy(b []byte) (l Legacy, err error) {
	s, err := parseHandOverState(b)
	for _, w := range s.writers {
		l.Writers = append(l.Writers, w.open())
	}
	for _, c := range s.sessions {
		l.Sessions = append(l.Sessions, LegacySession{Inode: c.inode, Writer: c.writer.open(), Limit: c.limit, Silence: c.heartbeatTimeout, Beat: c.heartbeatInterval})
	}
	return l, err
}

// ParseLegacy reads what a Reader has left, and writes it again.
func ParseLegacy(b []byte) ([]byte, error) {
	s, err := parseHandOverState(b)
	return s.encode(), err
}

// LegacySeeds are what a Reader may leave for the next one.
func LegacySeeds() [][]byte {
	writer := writerSnapshot{key: writerKey{identity: "uid 0", writer: id{1, 2, 3}}, epoch: 2, handled: 300, maybeHandledThrough: 7, idle: time.Minute}
	session := sessionSnapshot{inode: 1 << 40, writer: writer, limit: 10 << 20, heartbeatTimeout: 10 * time.Second, heartbeatInterval: time.Second}
	return [][]byte{
		(&handOverState{}).encode(),
		(&handOverState{writers: []writerSnapshot{writer}}).encode(),
		(&handOverState{writers: []writerSnapshot{writer, {key: writerKey{}}}, sessions: []sessionSnapshot{session, session}}).encode(),
	}
}
