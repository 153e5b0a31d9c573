// SPDX-License-Identifier: Apache-2.0

package receiver

// This file serves a connection whose messages are handled. deliver.go calls the handler;
// session.go and redelivery.go add acknowledgements.

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
	handle      func(data []byte)     // One of the methods of deliver.go, bound once.
	writer      wire.WriterID         // Of a session.
	seq         uint64                // Of the message at hand, or the one before.
	redelivered bool                  // It may have been handled before.
	handlerErr  error                 // Error of the handler; nil once it is dealt with.
	goexited    bool                  // The handler ended the goroutine; another continues,
	resumed     bool                  // and begins with the rest of a batch.
	batch       batchTurn             // For batches.
	attempts    attempts              // Of the message at hand, or the one before.
	acks        *transport.AckSender  // Of a session; nil without one.
	ownership   *ownership            // Of a session; nil without one.
	inherited   *wire.SessionSnapshot // The inherited session; nil without one.
	resumeErr   error                 // Why it cannot continue.
	fenced      chan struct{}         // Closed when a newer connection fences this one; nil without a session.
}

// newStream returns the stream of a connection, which an earlier process may have handed over.
func newStream(c *connection, from *inheritedConn) *stream {
	m := &stream{connection: c, batch: c.server.newBatchTurn()}
	if from != nil && from.session != nil {
		m.claimInherited(from.session)
	}
	return m
}

// serve handles messages until the connection ends.
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

// open calls the Open function of the settings for the sink of the connection.
func (c *stream) open() {
	if open := c.server.cfg.Open; open != nil {
		c.sink = open(&c.peer)
	}
	if c.handle = c.messageHandler(); c.sink.Message != nil {
		c.handle = c.handleDelivery
	}
}

// serveAfterGoexit continues serve after the handler ended its goroutine (runtime.Goexit).
func (c *stream) serveAfterGoexit() {
	defer c.onServeEnd()
	c.serveMessages()
	c.discardUnhandled()
}

// onServeEnd runs at the end of the connection, or of one of its goroutines.
func (c *stream) onServeEnd() {
	if c.goexited {
		c.goexited = false
		go c.serveAfterGoexit() // Ends with the connection; finish waits for it.
		return
	}
	c.closeSession()
	c.server.remove(c.connection)
}

// requestEnd closes the connection gracefully, or pauses it for the next process.
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

// discardUnhandled runs after a forced stop of a plain connection. It counts the messages that were
// read but not handled, and reports them to the writer. In a session the writer retransmits them.
func (c *stream) discardUnhandled() {
	if c.ownership != nil || !c.in.IsHalted() {
		return
	}
	c.in.SendReport()
	if messages := c.in.WholeMessages(); messages > 0 {
		c.server.counts.discarded.Add(messages)
		c.server.Report(errdefs.OpStop, c.addrText(), &errdefs.Note{
			Kind: errdefs.NoteDiscarded, Messages: messages,
			Err: fmt.Errorf("%w: %s read and not handled", errdefs.ErrStopped, errdefs.CountIs(messages, "was", "were")),
		})
	}
}

// serveMessages handles the buffered messages and reads more, until the connection ends.
func (c *stream) serveMessages() {
	for {
		var goesOn bool
		switch err := c.deliverBuffered(); {
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

// deliverBuffered handles the buffered messages.
func (c *stream) deliverBuffered() error {
	if c.batch.batcher != nil {
		return c.deliverBatches()
	}
	return c.deliver()
}

// read waits for bytes. It returns false at the end of the connection.
func (c *stream) read() (goesOn bool) {
	err := c.batch.readErr
	if c.batch.readErr = nil; err == nil {
		err = c.in.Fill()
	}
	switch err {
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
		c.server.Report(errdefs.OpRead, c.addrText(), fmt.Errorf(
			"%w in the middle of a message, after %d bytes of it: %w", errdefs.ErrConnectionClosed,
			n, err))
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrClosedPipe) {
		c.server.Report(errdefs.OpRead, c.addrText(), err)
	}
	return false
}
