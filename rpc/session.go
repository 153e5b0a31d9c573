// SPDX-License-Identifier: Apache-2.0

package rpc

// This file has the server's state of one connection: its calls, the memory that they use, and its
// goodbye.

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/duplex"
	"github.com/udsipc/udsipc/internal/seam"
)

// A connState is the server's state of one connection.
type connState struct {
	server          *Server
	conn            *duplex.ServerConn
	seam            seam.Session       // Of conn.
	keepMessage     func() seam.Buffer // Of seam, bound once.
	output          output             // Of streams.
	limit           uint64             // Of a message, in bytes.
	usedBytes       atomic.Int64       // Part of the server's memory, in bytes.
	isClient        bool               // A request was received. Owned by the reading goroutine.
	strayGoodbye    bool               // A goodbye for another connection was received. Owned likewise.
	responseDropped atomic.Bool        // A response was dropped since reading was last paused.

	mu           sync.Mutex // Guards the fields below.
	calls        map[uint64]*call
	waitingSends int // Final messages that wait for space in the queue. Their calls still count.
	// Closed when fewer messages wait, or at the end; nil while reading is not paused.
	readResume   chan struct{}
	goodbyeToken string // The token of the goodbye; empty before it.
	clientDone   bool   // The client starts nothing new.
	closed       bool
}

func (s *Server) connStateOf(from *duplex.ServerConn) *connState {
	if known, ok := s.connStates.Load(from); ok {
		return known.(*connState)
	}
	fresh := &connState{server: s, conn: from, seam: seam.OfSession(from), calls: make(map[uint64]*call)}
	fresh.limit, fresh.keepMessage = fresh.seam.MaxMessageSize(), fresh.seam.KeepMessage
	fresh.output = output{fresh.seam.EnqueueBuffer, fresh.seam.WriteQueued, fresh.send, fresh.send, fresh.seam.SendControl}
	if known, ok := s.connStates.LoadOrStore(from, fresh); ok {
		return known.(*connState) // Stop has created it at the same time.
	}
	s.memory.sessions.Add(1)
	context.AfterFunc(from.Context(), func() {
		s.connStates.Delete(from)
		s.memory.sessions.Add(-1)
		fresh.end()
	})
	context.AfterFunc(fresh.seam.ReceiveContext(), func() { fresh.endStreams(true) })
	return fresh
}

// endStreams ends the input of all streams. noCredit reports that no credit comes either.
func (s *connState) endStreams(noCredit bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if c.stream != nil {
			c.stream.endInput(noCredit)
		}
	}
}

// end cancels all calls of the connection.
func (s *connState) end() {
	s.mu.Lock()
	s.closed = true
	s.resumeLocked()
	calls := make([]*call, 0, len(s.calls))
	for _, c := range s.calls {
		calls = append(calls, c)
	}
	s.mu.Unlock()
	for _, c := range calls {
		c.cancel(context.Canceled)
	}
}

// find returns a call in flight, or nil.
func (s *connState) find(id uint64) *call {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[id]
}

// sendGoodbye tells the client that the server stops.
func (s *Server) sendGoodbye(from *duplex.ServerConn) {
	state, token := s.connStateOf(from), rand.Text()[:maxToken]
	state.mu.Lock()
	state.goodbyeToken = token
	state.mu.Unlock()
	// An error means that the connection has ended.
	_ = sendWith(state.seam.SendControl, typeGoodbye, func(b []byte) []byte { return append(b, token...) })
}

// onGoodbye handles the client's reply: it starts nothing new, and sends no more stream messages. The reply
// may belong to an earlier connection, once: small messages of another protocol begin like goodbyes, too,
// such as a string of Protocol Buffers. ok is false for the second one.
func (s *connState) onGoodbye(token []byte) (ok bool) {
	s.mu.Lock()
	asked := s.goodbyeToken != "" && s.goodbyeToken == string(token)
	s.clientDone = s.clientDone || asked
	ok = asked || s.isClient || !s.strayGoodbye || s.goodbyeToken != ""
	s.mu.Unlock()
	if !asked {
		s.strayGoodbye = true
		return ok
	}
	s.endStreams(false)
	s.seam.Finish()
	return true
}

// failCall completes a call with an error, in the reading goroutine. It never blocks: if the
// client's queue is full, reading pauses until it has space.
func (s *connState) failCall(id uint64, cause *Error) {
	b := getBytes(nil)
	*b = appendFailure(*b, id, cause, s.limit)
	_ = s.seam.SendControl(*b) // If not, the connection has ended.
	putBytes(b)
	if room := s.seam.Room(); room != nil {
		s.seam.PauseReading(room)
	}
}

// failUnread completes a call whose response is dropped. Reading pauses before the next call:
// errors pass the limits of the queue, and there must not be more of them than calls in flight.
func (s *connState) failUnread(id uint64) {
	b := getBytes(nil)
	*b = appendFailure(*b, id, errClientNotReading, s.limit)
	s.responseDropped.Store(true) // First: the call does not count any more.
	_ = s.seam.SendControl(*b)    // If not, the connection has ended.
	putBytes(b)
}

// readPauseLocked returns a channel that reading must wait for, or nil. Nothing more is read from a
// client that leaves its responses unread.
func (s *connState) readPauseLocked() <-chan struct{} {
	if s.waitingSends == 0 || s.closed || len(s.calls)+s.waitingSends < s.server.maxConnCalls &&
		!s.server.memory.exhausted(&s.usedBytes) {
		return nil
	}
	if s.readResume == nil {
		s.readResume = make(chan struct{})
	}
	return s.readResume
}

// resumeLocked resumes reading if that is allowed.
func (s *connState) resumeLocked() {
	if s.readResume != nil && s.readPauseLocked() == nil {
		close(s.readResume)
		s.readResume = nil
	}
}

// send sends a message that completes or continues a call. If the queue is full, send waits for
// space, within the client's share of the memory.
func (s *connState) send(body []byte) error {
	err := s.seam.TrySendEncoded(body)
	if err == nil || !errors.Is(err, udsipc.ErrBufferFull) {
		return err
	}
	memory := &s.server.memory
	if !memory.tryReserve(&s.usedBytes, &memory.responses, len(body)) {
		return errClientNotReading
	}
	s.mu.Lock()
	s.waitingSends++
	s.mu.Unlock()
	s.server.active.Add(1)
	err = s.seam.SendEncoded(body)
	s.server.active.Add(-1)
	memory.release(&s.usedBytes, &memory.responses, len(body))
	s.mu.Lock()
	s.waitingSends--
	s.resumeLocked()
	s.mu.Unlock()
	return err
}

// errClientNotReading is the error of a call whose response, or stream message, is dropped.
var errClientNotReading = &Error{
	Code: CodeResourceExhausted,
	Message: "the handler has run, but the client leaves more unread than the server holds for it: " +
		"read responses and streams, or raise the limit (Server.SetMaxMemory)",
}
