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
	"github.com/udsipc/udsipc/internal/seam"
)

// A ServerConn is the server's end of a connection. All methods are safe for concurrent use.
type ServerConn struct {
	server        *Server
	conn          *udsipc.Conn
	seam          seam.Conn // Of conn.
	ctx           context.Context
	cancel        context.CancelCauseFunc
	receiveCtx    context.Context // Ends when nothing more comes.
	cancelReceive context.CancelFunc
	closing       atomic.Bool     // The server ends it: nothing more is to come.
	holdGroup     sync.WaitGroup  // What still wants to send.
	holdCount     atomic.Int64    // How much that is.
	readResume    <-chan struct{} // Of PauseReading; nil without one. The reading goroutine's own.
	stopState     stopState
}

func newServerConn(server *Server, conn *udsipc.Conn) *ServerConn {
	s := &ServerConn{server: server, conn: conn, seam: seam.OfConn(conn)}
	s.ctx, s.cancel = context.WithCancelCause(server.forceCtx)
	s.receiveCtx, s.cancelReceive = context.WithCancel(s.ctx)
	s.seam.KeepOpen(func() bool { return s.holdCount.Load() > 0 })
	return s
}

// Send queues m for the client; the caller may reuse m.Data at once. If the client is slow and its queue is full,
// udsipc.WithOverflow says what happens: udsipc.ErrBufferFull by default. After the end of the connection it returns
// udsipc.ErrConnectionClosed.
func (s *ServerConn) Send(m Message) error { return m.send(s.conn.WriteMessage) }

// Dropped returns how many messages udsipc.OverflowDropOldest has dropped on this session.
func (s *ServerConn) Dropped() uint64 { return s.conn.Dropped() }

// Peer returns who the client is. Its ID is the number of the session.
func (s *ServerConn) Peer() udsipc.Peer { return s.conn.Peer() }

// Context returns a context that ends with the session.
func (s *ServerConn) Context() context.Context { return s.ctx }

// Close ends the session. What is queued for the client is sent first, for up to udsipc.WithWriteTimeout. It may be
// called from inside a handler.
func (s *ServerConn) Close() error {
	s.cancel(udsipc.ErrConnectionClosed)
	return s.conn.Close()
}

// reportError reports an error about the client.
func (s *ServerConn) reportError(op string, err error) {
	s.server.seam.Report(op, s.Peer().String(), err)
}

// run handles what comes until the connection ends.
func (s *ServerConn) run() {
	returned := false
	defer func() {
		if !returned { // A handler has ended the goroutine, which costs its message alone.
			s.reportError(udsipc.OpHandle, fmt.Errorf("%w: it called runtime.Goexit", udsipc.ErrHandlerFailed))
			s.server.wg.Go(s.run)
		}
	}()
	err := s.read()
	returned = true
	s.finish(err)
}

// finish ends the session, once nothing more comes: what is held is waited for, and what is queued is sent.
func (s *ServerConn) finish(err error) {
	defer s.server.remove(s)
	s.cancelReceive()
	if !s.closing.Load() || s.clientLeft(err) {
		s.cancel(err)
		_ = s.conn.Close() // What cannot be sent to a client that is gone is lost with it.
	}
	s.holdGroup.Wait()
	_ = s.conn.Flush(s.server.forceCtx) // Stop waits for that, as long as its context lasts.
	left := s.ctx.Err() != nil          // Whoever ended it, or whose client it is, was told.
	s.cancel(udsipc.ErrStopped)
	if err := s.conn.Close(); err != nil && !left {
		s.reportError(udsipc.OpStop, err)
	}
}

// read returns why nothing comes any more.
func (s *ServerConn) read() error {
	for {
		s.waitReadResume()
		data, err := s.next()
		if err != nil {
			if s.skipTooLarge(err) {
				continue
			}
			s.report(err)
			return err
		}
		m, err := parse(data)
		if err != nil {
			s.reportError(udsipc.OpRead, err)
			return err
		}
		if err := s.handle(m); err != nil {
			s.reportError(udsipc.OpHandle, fmt.Errorf("%w: %w", udsipc.ErrHandlerFailed, err))
		}
	}
}

// skipTooLarge says whether reading goes on after err: behind a message that was too large.
func (s *ServerConn) skipTooLarge(err error) bool {
	var large *udsipc.TooLargeError
	if !errors.As(err, &large) {
		return false
	}
	s.reportError(udsipc.OpRead, err)
	if s.server.onTooLarge != nil {
		s.server.onTooLarge(s, (*seam.TooLarge)(large))
	}
	return true
}

// report reports the end of reading, if that is one that the peer did not decide on or this side asked for.
func (s *ServerConn) report(err error) {
	switch {
	case err == io.EOF, s.ctx.Err() != nil, s.closing.Load() && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, udsipc.ErrConnectionClosed)):
	default:
		s.reportError(udsipc.OpRead, err)
	}
}

// handle calls the handler.
func (s *ServerConn) handle(m Message) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = fmt.Errorf("panic: %v\n%s", value, debug.Stack())
		}
	}()
	return s.server.handler(s.ctx, s, m)
}
