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
	receiveCtx    context.Context // Ends after the last message was read.
	cancelReceive context.CancelFunc
	closing       atomic.Bool     // The Server stops: no more messages are expected.
	holdGroup     sync.WaitGroup  // Holds (seam.Session.Hold): senders to wait for before the close.
	holdCount     atomic.Int64    // Number of holds.
	readResume    <-chan struct{} // Of PauseReading, or nil. Owned by the reading goroutine.
	stopState     stopState
}

func newServerConn(server *Server, conn *udsipc.Conn) *ServerConn {
	s := &ServerConn{server: server, conn: conn, seam: seam.OfConn(conn)}
	s.ctx, s.cancel = context.WithCancelCause(server.forceCtx)
	s.receiveCtx, s.cancelReceive = context.WithCancel(s.ctx)
	s.seam.KeepOpen(func() bool { return s.holdCount.Load() > 0 })
	return s
}

// Send queues m for the client; the caller may reuse m.Data. If the queue is full,
// udsipc.WithOverflow applies: the default is udsipc.ErrBufferFull. After the end of the connection
// Send returns udsipc.ErrConnectionClosed.
func (s *ServerConn) Send(m Message) error { return m.send(s.conn.WriteMessage) }

// Dropped returns how many messages udsipc.OverflowDropOldest has dropped on this connection.
func (s *ServerConn) Dropped() uint64 { return s.conn.Dropped() }

// Peer returns the identity of the client. Its ID is the number of the connection.
func (s *ServerConn) Peer() udsipc.Peer { return s.conn.Peer() }

// Context returns a context that ends with the connection.
func (s *ServerConn) Context() context.Context { return s.ctx }

// Close closes the connection. It sends the queued messages first, for at most
// udsipc.WithWriteTimeout. It may be called within a handler.
func (s *ServerConn) Close() error {
	s.cancel(udsipc.ErrConnectionClosed)
	return s.conn.Close()
}

// reportError reports an error with the client as its peer.
func (s *ServerConn) reportError(op string, err error) {
	s.server.seam.Report(op, s.Peer().String(), err)
}

// begin calls the function of OnConnect, then handles messages until the connection ends.
func (s *ServerConn) begin() {
	if s.server.onConnect == nil {
		s.run()
		return
	}
	err := errGoexit
	defer func() { // Runs after runtime.Goexit, too.
		if err != nil {
			s.reportError(udsipc.OpHandle, fmt.Errorf("%w: OnConnect: %w", udsipc.ErrHandlerFailed, err))
			_ = s.Close() // What it reports is a loss to a client that is turned away.
		}
		s.server.announce(s)
		s.run()
	}()
	err = s.callOnConnect()
}

// errGoexit is the error of a function that ended its goroutine.
var errGoexit = errors.New("it called runtime.Goexit")

// callOnConnect calls the function of OnConnect. A panic is returned as an error.
func (s *ServerConn) callOnConnect() (err error) {
	defer recovered(&err)
	s.server.onConnect(s)
	return nil
}

// run handles messages until the connection ends.
func (s *ServerConn) run() {
	returned := false
	defer func() {
		if !returned { // The handler ended the goroutine: only its message is lost.
			s.reportError(udsipc.OpHandle, fmt.Errorf("%w: %w", udsipc.ErrHandlerFailed, errGoexit))
			s.server.wg.Go(s.run)
		}
	}()
	err := s.read()
	returned = true
	s.finish(err)
}

// finish closes the connection after the last message was read. It waits for the holds and sends
// the queued messages.
func (s *ServerConn) finish(err error) {
	defer s.server.remove(s)
	s.cancelReceive()
	if !s.closing.Load() || s.clientLeft(err) {
		s.cancel(err)
		_ = s.conn.Close() // Its error counts messages for a client that has disconnected.
	}
	s.holdGroup.Wait()
	_ = s.conn.Flush(s.server.forceCtx) // Stop waits for it until its context ends.
	left := s.ctx.Err() != nil          // The connection was closed on purpose, or by the client: no report.
	s.cancel(udsipc.ErrStopped)
	if err := s.conn.Close(); err != nil && !left {
		s.reportError(udsipc.OpStop, err)
	}
}

// read handles messages until an error, and returns it.
func (s *ServerConn) read() error {
	for {
		s.waitReadResume()
		data, err := s.next()
		if err != nil {
			if s.skipTooLarge(err) {
				continue
			}
			s.report(err)
			if errors.Is(err, udsipc.ErrInvalidLengthPrefix) {
				s.seam.Refuse()
			}
			return err
		}
		m, err := parse(data)
		if err != nil {
			s.reportError(udsipc.OpRead, err)
			s.seam.Refuse()
			return err
		}
		if err := s.handle(m); err != nil {
			s.reportError(udsipc.OpHandle, fmt.Errorf("%w: %w", udsipc.ErrHandlerFailed, err))
			if errors.Is(err, ErrInvalidMessage) {
				s.seam.Refuse()
				return err
			}
		}
	}
}

// skipTooLarge reports whether err is a message over the limit, which is skipped.
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

// report reports err, unless the peer closed the connection between messages or this side closed
// it.
func (s *ServerConn) report(err error) {
	switch {
	case err == io.EOF, s.ctx.Err() != nil:
	case s.closing.Load() && (errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, udsipc.ErrConnectionClosed)):
	default:
		s.reportError(udsipc.OpRead, err)
	}
}

// handle calls the handler. A panic is returned as an error.
func (s *ServerConn) handle(m Message) (err error) {
	defer recovered(&err)
	return s.server.handler(s.ctx, s, m)
}

// recovered is deferred. It stores a panic, with its stack, as an error.
func recovered(err *error) {
	if value := recover(); value != nil {
		*err = fmt.Errorf("panic: %v\n%s", value, debug.Stack())
	}
}
