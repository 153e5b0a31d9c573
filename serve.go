// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is a connection whose messages are handled, from the first byte to the last. serve_deliver.go is how a
// handler gets them, serve_welcome.go and serve_session.go are what acknowledgements add.

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// A stream is a connection whose messages go to a handler.
type stream struct {
	*connection
	sink        sink
	handle      func(data []byte) // One of the handle methods, bound once.
	writer      id                // Of a session.
	seq         uint64            // Of the message at hand, or the one before.
	redelivered bool              // It may have been handled before.
	failure     error             // What the handler did instead of returning; nil once that is dealt with.
	exited      bool              // It has ended the goroutine, and another has to go on.
	tried       attempts          // Of the message at hand, or the one before.
	acks        *inSession        // Of a session; nil without one.
	claim       *claim            // Of a session; nil without one.
	legacy      *legacySession    // The session that it has begun with; nil without one.
	stale       error             // Why that cannot go on.
	fenced      chan struct{}     // Closed when a newer connection takes over; nil without a session.
}

// newStream makes a connection one that is handled. An earlier process may have left it.
func newStream(c *connection, from *legacyConn) *stream {
	m := &stream{connection: c}
	if from != nil && from.session != nil {
		m.reclaim(from.session)
	}
	return m
}

// serve handles what comes until the connection ends.
func (c *stream) serve() {
	defer c.end()
	if !c.verify() {
		return
	}
	c.open()
	if c.legacy != nil && !c.resume() {
		return
	}
	c.serveMessages()
	c.discard()
}

// open finds out where the messages go.
func (c *stream) open() {
	if open := c.server.cfg.open; open != nil {
		c.sink = open(&c.peer)
	}
	if c.handle = c.handleMessage; c.sink.message != nil {
		c.handle = c.handleDelivery
	}
}

// goOn is serve for a connection whose handler has ended the goroutine (runtime.Goexit).
func (c *stream) goOn() {
	defer c.end()
	c.serveMessages()
	c.discard()
}

// end is the end of the connection, or of one goroutine of it.
func (c *stream) end() {
	if c.exited {
		c.exited = false
		go c.goOn() // Ends with the connection; finish waits for it.
		return
	}
	c.leaveSession()
	c.server.remove(c.connection)
}

// requestEnd ends the connection gracefully: for its writer, or for this process.
func (c *stream) requestEnd() {
	switch {
	case c.refused:
		c.in.requestClose(endFull)
	case c.server.handingOver:
		c.in.requestHandOver()
	default:
		c.in.requestClose(endOrderly)
	}
}

func (c *stream) reject(why endReason) { c.in.reject(why) }

func (c *stream) release() { c.in.release() }

// discard accounts, after a Stop that does not wait, for what was read of a plain connection and is not handled, and
// tells the writer. In a session that comes again.
func (c *stream) discard() {
	if c.claim != nil || !c.in.isHalted() {
		return
	}
	c.in.farewell()
	if messages := c.in.wholeMessages(); messages > 0 {
		c.server.counts.discarded.Add(messages)
		c.server.report(opStop, c.where(), fmt.Errorf("%w: %d messages were read and are not handled", errStopped, messages))
	}
}

// serveMessages hands over what is buffered, reads, and so on, until the connection ends.
func (c *stream) serveMessages() {
	for {
		var goesOn bool
		switch err := c.deliver(); {
		case err == errOpening:
			goesOn = c.openSession()
		case err != nil:
			goesOn = c.refuse(err)
		default:
			goesOn = c.server.handling.Err() == nil && c.read()
		}
		if !goesOn {
			return
		}
	}
}

// read waits for bytes. It says no at the end of the connection.
func (c *stream) read() (goesOn bool) {
	switch err := c.in.fill(); err {
	case nil:
		return true
	case errHandOver:
		return !c.handOver()
	default:
		return c.goesOn(err)
	}
}

// refuse deals with bytes that the protocol or the limit does not allow. A message that is too large
// ends the connection gracefully: what the peer sent behind it is handled. After a length that is
// none, nothing makes sense any more, and the peer is told what was read.
func (c *stream) refuse(err error) (goesOn bool) {
	c.server.report(opRead, c.where(), err)
	if !errors.Is(err, errMessageTooLarge) {
		c.server.counts.malformed.Add(1)
		c.in.reject(endMalformed)
		return false
	}
	c.server.counts.tooLarge.Add(1)
	if c.claim != nil {
		return false // The welcome has told the limit, and a message that is skipped would have a number.
	}
	c.in.requestClose(endTooLarge)
	return true
}

// goesOn says whether there is more to read after err, and accounts for what err means.
func (c *stream) goesOn(err error) bool {
	closing := c.in.isClosing()
	switch {
	case isTimeout(err) && !closing:
		c.server.counts.idleClosed.Add(1)
		c.in.requestClose(endOrderly)
		return true
	case errors.Is(err, errEnded), errors.Is(err, net.ErrClosed), closing:
		if closing {
			c.in.farewell()
		}
		return false
	case errors.Is(err, errTooSlow):
		c.server.counts.tooSlow.Add(1)
		c.server.report(opRead, c.where(), err)
		c.in.requestClose(endTooSlow)
		return true
	case errors.Is(err, errPeerSilent):
		c.server.report(opRead, c.where(), err)
		return false
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		c.in.answerEnd()
	}
	if n := c.in.midway(); n > 0 {
		c.server.counts.truncated.Add(1)
		c.server.report(opRead, c.where(), fmt.Errorf("%w in the middle of a message, after %d bytes of it: %w", errConnectionClosed, n, err))
	} else if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, io.ErrClosedPipe) {
		c.server.report(opRead, c.where(), err)
	}
	return false
}
