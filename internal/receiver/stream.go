// SPDX-License-Identifier: Apache-2.0

package receiver

// This file is a connection whose messages go to a handler, from the first byte to the last. deliver.go calls the
// handler; session.go and redelivery.go are what acknowledgements add.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// A stream is a connection whose messages go to a handler.
type stream struct {
	*connection
	sink        Sink
	handle      func(data []byte)     // One of the handle methods, bound once.
	writer      wire.WriterID         // Of a session.
	seq         uint64                // Of the message at hand, or the one before.
	redelivered bool                  // It may have been handled before.
	handlerErr  error                 // What the handler did instead of returning; nil once that is dealt with.
	goexited    bool                  // It has ended the goroutine, and another has to go on.
	attempts    attempts              // Of the message at hand, or the one before.
	acks        *transport.AckSender  // Of a session; nil without one.
	ownership   *ownership            // Of a session; nil without one.
	inherited   *wire.SessionSnapshot // The session that it has begun with; nil without one.
	resumeErr   error                 // Why that cannot go on.
	fenced      chan struct{}         // Closed when a newer connection fences this one; nil without a session.
}

// newStream returns the stream of a connection, which an earlier process may have handed over.
func newStream(c *connection, from *inheritedConn) *stream {
	m := &stream{connection: c}
	if from != nil && from.session != nil {
		m.claimInherited(from.session)
	}
	return m
}

// serve handles what comes until the connection ends.
func (c *stream) serve() {
	defer c.onServeEnd()
	if !c.authenticate() {
		return
	}
	c.open()
	if c.inherited != nil && !c.resumeSession() {
		return
	}
	c.serveMessages()
	c.discardUnhandled()
}

// open finds out where the messages go.
func (c *stream) open() {
	if open := c.server.cfg.Open; open != nil {
		c.sink = open(&c.peer)
	}
	if c.handle = c.handleMessage; c.sink.Message != nil {
		c.handle = c.handleDelivery
	}
}

// serveAfterGoexit is serve for a connection whose handler has ended the goroutine (runtime.Goexit).
func (c *stream) serveAfterGoexit() {
	defer c.onServeEnd()
	c.serveMessages()
	c.discardUnhandled()
}

// onServeEnd is the end of the connection, or of one goroutine of it.
func (c *stream) onServeEnd() {
	if c.goexited {
		c.goexited = false
		go c.serveAfterGoexit() // Ends with the connection; finish waits for it.
		return
	}
	c.closeSession()
	c.server.remove(c.connection)
}

// requestEnd ends the connection gracefully: for its writer, or for this process.
func (c *stream) requestEnd() {
	switch {
	case c.rejected:
		c.in.RequestClose(wire.CloseFull)
	case c.server.handingOver:
		c.in.RequestHandOver()
	default:
		c.in.RequestClose(wire.CloseOrderly)
	}
}

func (c *stream) reject(why wire.CloseReason) { c.in.Reject(why) }

func (c *stream) release() { c.in.ReleaseBuffer() }

// discardUnhandled accounts, after a Stop that does not wait, for what was read of a plain connection and is not handled, and
// tells the writer. In a session that comes again.
func (c *stream) discardUnhandled() {
	if c.ownership != nil || !c.in.IsHalted() {
		return
	}
	c.in.SendReport()
	if messages := c.in.WholeMessages(); messages > 0 {
		c.server.counts.discarded.Add(messages)
		c.server.Report(errdefs.OpStop, c.addrText(), fmt.Errorf("%w: %d messages were read and are not handled", errdefs.ErrStopped, messages))
	}
}

// serveMessages hands over what is buffered, reads, and so on, until the connection ends.
func (c *stream) serveMessages() {
	for {
		var goesOn bool
		switch err := c.deliver(); {
		case err == transport.ErrSessionPreface:
			goesOn = c.openSession()
		case err != nil:
			goesOn = c.onProtocolError(err)
		default:
			goesOn = c.server.forceCtx.Err() == nil && c.read()
		}
		if !goesOn {
			return
		}
	}
}

// read waits for bytes. It returns false at the end of the connection.
func (c *stream) read() (goesOn bool) {
	switch err := c.in.Fill(); err {
	case nil:
		return true
	case transport.ErrHandOver:
		return !c.handOver()
	default:
		return c.onReadError(err)
	}
}

// onProtocolError deals with bytes that the protocol or the limit does not allow. A message that is too large
// ends the connection gracefully: what the peer sent behind it is handled. After a length that is
// none, nothing makes sense any more, and the peer is told what was read.
func (c *stream) onProtocolError(err error) (goesOn bool) {
	c.server.Report(errdefs.OpRead, c.addrText(), err)
	if !errors.Is(err, errdefs.ErrMessageTooLarge) {
		c.server.counts.malformed.Add(1)
		c.in.Reject(wire.CloseMalformed)
		return false
	}
	c.server.counts.tooLarge.Add(1)
	if c.ownership != nil {
		return false // The welcome has told the limit, and a message that is skipped would have a number.
	}
	c.in.RequestClose(wire.CloseTooLarge)
	return true
}

// onReadError accounts for err, and reports whether there is more to read.
func (c *stream) onReadError(err error) bool {
	closing := c.in.IsClosing()
	switch {
	case transport.IsTimeout(err) && !closing:
		c.server.counts.idleClosed.Add(1)
		c.in.RequestClose(wire.CloseOrderly)
		return true
	case errors.Is(err, transport.ErrGracefulEnd), errors.Is(err, net.ErrClosed), closing:
		if closing {
			c.in.SendReport()
		}
		return false
	case errors.Is(err, errdefs.ErrTooSlow):
		c.server.counts.tooSlow.Add(1)
		c.server.Report(errdefs.OpRead, c.addrText(), err)
		c.in.RequestClose(wire.CloseTooSlow)
		return true
	case errors.Is(err, errdefs.ErrHeartbeatTimeout):
		c.server.Report(errdefs.OpRead, c.addrText(), err)
		return false
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		c.in.ReplyToEnd()
	}
	if n := c.in.PartialBytes(); n > 0 {
		c.server.counts.truncated.Add(1)
		c.server.Report(errdefs.OpRead, c.addrText(), fmt.Errorf("%w in the middle of a message, after %d bytes of it: %w", errdefs.ErrConnectionClosed, n, err))
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrClosedPipe) {
		c.server.Report(errdefs.OpRead, c.addrText(), err)
	}
	return false
}
