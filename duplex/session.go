// SPDX-License-Identifier: Apache-2.0

package duplex

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"github.com/udsipc/udsipc"
)

// A Session is a Server's end of a connection. All methods may be called from any goroutine.
type Session struct {
	server *Server
	conn   *udsipc.Conn
	ctx    context.Context
	cancel context.CancelCauseFunc
	input  context.Context // Ends when nothing more comes.
	silent context.CancelFunc
	ending atomic.Bool     // The server ends it: nothing more is to come.
	held   sync.WaitGroup  // What still wants to send.
	holds  atomic.Int64    // How much that is.
	resume <-chan struct{} // Of HoldReading; nil without one. The reading goroutine's own.
	end    ending
}

func newSession(server *Server, conn *udsipc.Conn) *Session {
	s := &Session{server: server, conn: conn}
	s.ctx, s.cancel = context.WithCancelCause(server.abort)
	s.input, s.silent = context.WithCancel(s.ctx)
	conn.KeepOpen(func() bool { return s.holds.Load() > 0 })
	return s
}

// Send queues m for the client; the caller may reuse m.Data at once. If the client is slow and its queue is full,
// udsipc.WithOverflow says what happens: udsipc.ErrBufferFull by default. After the end of the connection it returns
// udsipc.ErrConnectionClosed.
func (s *Session) Send(m Message) error { return m.send(s.conn.WriteMessage) }

// SendBody is Send for a message that is a body already (Message.Append); the caller may reuse it at once.
func (s *Session) SendBody(body []byte) error { return s.conn.WriteMessage(body) }

// TrySendBody is SendBody that never waits: it returns udsipc.ErrBufferFull if the queue is full.
func (s *Session) TrySendBody(body []byte) error { return s.conn.TryWriteMessage(body) }

// SendControl is SendBody for what ends or frees something at the client: the bounds of the queue do not hold for it
// (udsipc.Conn.WriteControl).
func (s *Session) SendControl(body []byte) error { return s.conn.WriteControl(body) }

// Room returns nil if the queue is below its bounds, and otherwise a channel that is closed once there is room, or the
// connection has ended.
func (s *Session) Room() <-chan struct{} { return s.conn.Room() }

// HoldReading has the session read nothing more until ready is closed, for what is built on a Server and cannot take more
// of this client's now. No read memory is held meanwhile. It must be called by a handler, and counts once that has
// returned.
func (s *Session) HoldReading(ready <-chan struct{}) { s.resume = ready }

// Dropped returns how many messages udsipc.OverflowDropOldest has dropped on this session.
func (s *Session) Dropped() uint64 { return s.conn.Dropped() }

// MaxMessageSize returns the largest frame that the Server sends and takes: a message and its type.
func (s *Session) MaxMessageSize() uint64 { return s.conn.MaxMessageSize() }

// Peer returns who the client is. Its ID is the number of the session.
func (s *Session) Peer() udsipc.Peer { return s.conn.Peer() }

// Context returns a context that ends with the session.
func (s *Session) Context() context.Context { return s.ctx }

// Incoming returns a context that ends when nothing more comes from the client: with the session, or before it when the
// Server stops and lets handlers finish.
func (s *Session) Incoming() context.Context { return s.input }

// Close ends the session. What is queued for the client is sent first, for up to udsipc.WithWriteTimeout. It may be
// called from inside a handler.
func (s *Session) Close() error {
	s.cancel(udsipc.ErrConnectionClosed)
	return s.conn.Close()
}

// Hold keeps the Server from closing the connection when it stops, until Release was called as often: for a handler
// that returns before it has answered. A session that is held is not idle either (udsipc.WithInactivityTimeout). It must be
// called by a handler.
func (s *Session) Hold() {
	s.holds.Add(1)
	s.held.Add(1)
}

// Release undoes a Hold.
func (s *Session) Release() {
	s.holds.Add(-1)
	s.held.Done()
}

// run handles what comes until the connection ends.
func (s *Session) run() {
	returned := false
	defer func() {
		if !returned { // A handler has ended the goroutine, which costs its message alone.
			s.server.listener.Report(udsipc.OpHandle, s.Peer(), fmt.Errorf("%w: it called runtime.Goexit", udsipc.ErrHandlerFailed))
			s.server.wg.Go(s.run)
		}
	}()
	err := s.read()
	returned = true
	s.finish(err)
}

// finish ends the session, once nothing more comes: what is held is waited for, and what is queued is sent.
func (s *Session) finish(err error) {
	defer s.server.remove(s)
	s.silent()
	if !s.ending.Load() || s.hasLeft(err) {
		s.cancel(err)
		_ = s.conn.Close() // What cannot be sent to a client that is gone is lost with it.
	}
	s.held.Wait()
	_ = s.conn.Flush(s.server.abort) // Stop waits for that, as long as its context lasts.
	left := s.ctx.Err() != nil       // Whoever ended it, or whose client it is, was told.
	s.cancel(udsipc.ErrStopped)
	if err := s.conn.Close(); err != nil && !left {
		s.server.listener.Report(udsipc.OpStop, s.Peer(), err)
	}
}

// read returns why nothing comes any more.
func (s *Session) read() error {
	for {
		s.awaitResume()
		data, err := s.next()
		if err != nil {
			if s.passOver(err) {
				continue
			}
			s.report(err)
			return err
		}
		m, err := parse(data)
		if err != nil {
			s.server.listener.Report(udsipc.OpRead, s.Peer(), err)
			return err
		}
		if err := s.handle(m); err != nil {
			s.server.listener.Report(udsipc.OpHandle, s.Peer(), fmt.Errorf("%w: %w", udsipc.ErrHandlerFailed, err))
		}
	}
}

// passOver says whether reading goes on after err: behind a message that was too large.
func (s *Session) passOver(err error) bool {
	var large *udsipc.TooLargeError
	if !errors.As(err, &large) {
		return false
	}
	s.server.listener.Report(udsipc.OpRead, s.Peer(), err)
	if s.server.tooLarge != nil {
		s.server.tooLarge(s, large)
	}
	return true
}

// report reports the end of reading, if that is one that the peer did not decide on or this side asked for.
func (s *Session) report(err error) {
	switch {
	case err == io.EOF, s.ctx.Err() != nil, s.ending.Load() && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, udsipc.ErrConnectionClosed)):
	default:
		s.server.listener.Report(udsipc.OpRead, s.Peer(), err)
	}
}

// handle calls the handler.
func (s *Session) handle(m Message) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %v\n%s", value, debug.Stack())
		}
	}()
	return s.server.handler(s.ctx, s, m)
}
