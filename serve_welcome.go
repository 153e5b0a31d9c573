// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how a stream begins and ends a session: the hello of a writer that asks for acknowledgements, the
// welcome, and who speaks for the writer.

import (
	"errors"
	"time"
)

// openSession greets a writer that asks for acknowledgements. It says no when that is the end of the
// connection.
func (c *stream) openSession() bool {
	h, err := c.readHello()
	if err == nil && c.in.isClosing() {
		c.in.sendReport() // No message may be sent before the welcome, so none is lost.
		return false
	}
	if err == nil {
		err = c.welcome(h)
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, errGracefulEnd):
		return false
	case errors.Is(err, errVersion):
		c.in.rejectSession(statusVersion)
	case errors.Is(err, errOldEpoch):
		c.in.rejectSession(statusOldEpoch)
	default:
		c.server.counts.malformed.Add(1)
	}
	c.server.report(opOpenSession, c.addrText(), err)
	return false
}

// readHello waits for the whole hello. errGracefulEnd means that the connection ended before, which is
// accounted for.
func (c *stream) readHello() (hello, error) {
	for {
		h, whole, err := c.in.hello()
		if whole {
			return h, err
		}
		if err := c.in.fill(); err != nil && !c.onReadError(err) {
			return h, errGracefulEnd
		}
	}
}

// welcome makes this connection the one that speaks for its writer, and says so.
func (c *stream) welcome(h hello) error {
	c.fenced = make(chan struct{})
	claim, err := c.server.writerStates.acquire(c.peer.identity(), h, c.fence)
	if err != nil {
		return err
	}
	c.ownership = claim
	beat := h.heartbeatTimeout / heartbeatsPerTimeout
	handled, repeats, failures, err := claim.waitForPrevious(c.server.forceCtx, beat, c.in.sendHeartbeat)
	if err != nil {
		return err
	}
	if handled >= h.firstSeq {
		c.server.counts.duplicates.Add(handled - h.firstSeq + 1)
	}
	c.writer = h.writer
	c.attempts = attempts{seq: handled + 1, count: failures}
	c.beginSession(handled, repeats, beat, c.in.requiredHeartbeatTimeout(c.server.cfg.heartbeatTimeout))
	c.acks.sendWelcome()
	if c.in.isClosing() {
		c.in.sendGoodbye() // What the writer sends until it hears that is handled.
	}
	return nil
}

// beginSession goes on behind the message handled; up to repeats, an earlier reader may have handled others.
func (c *stream) beginSession(handled, repeats uint64, beat, silence time.Duration) {
	c.acks = c.in.beginSession(handled, repeats, beat, silence)
	c.seq = handled
	if c.sink.session != nil {
		c.sink.session(c.writer)
	}
	if c.handle = c.handleMessageAcked; c.sink.message != nil {
		c.handle = c.handleDeliveryAcked
	}
	c.server.counts.sessions.Add(1)
}

// fence ends the connection for a newer one of the same writer.
func (c *stream) fence() {
	close(c.fenced)
	c.in.halt()
}

// closeSession lets go of the writer, once everything that can be said to it is said.
func (c *stream) closeSession() {
	handled := uint64(0)
	if c.inherited != nil {
		handled = c.inherited.writer.handled
	}
	if c.acks != nil {
		handled = c.acks.handled()
		if err := c.acks.close(); errors.Is(err, errBackpressure) {
			c.server.report(opOpenSession, c.addrText(), err)
		}
	}
	if c.ownership != nil {
		c.ownership.release(handled, c.attempts.countFor(handled+1))
	}
}
