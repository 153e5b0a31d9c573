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
		c.in.farewell() // No message may be sent before the welcome, so none is lost.
		return false
	}
	if err == nil {
		err = c.welcome(h)
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, errEnded):
		return false
	case errors.Is(err, errVersion):
		c.in.rejectSession(statusVersion)
	case errors.Is(err, errStale):
		c.in.rejectSession(statusStale)
	default:
		c.server.counts.malformed.Add(1)
	}
	c.server.report(opSession, c.where(), err)
	return false
}

// readHello waits for the whole hello. errEnded means that the connection ended before, which is
// accounted for.
func (c *stream) readHello() (hello, error) {
	for {
		h, whole, err := c.in.hello()
		if whole {
			return h, err
		}
		if err := c.in.fill(); err != nil && !c.goesOn(err) {
			return h, errEnded
		}
	}
}

// welcome makes this connection the one that speaks for its writer, and says so.
func (c *stream) welcome(h hello) error {
	c.fenced = make(chan struct{})
	claim, err := c.server.writers.claim(c.peer.identity(), h, c.fence)
	if err != nil {
		return err
	}
	c.claim = claim
	beat := h.silence / beatsPerSilence
	handled, repeats, failures, err := claim.wait(c.server.handling, beat, c.in.sendHeartbeat)
	if err != nil {
		return err
	}
	if handled >= h.first {
		c.server.counts.duplicates.Add(handled - h.first + 1)
	}
	c.writer = h.writer
	c.tried = attempts{message: handled + 1, count: failures}
	c.beginSession(handled, repeats, beat, c.in.heartbeatTimeout(c.server.cfg.peerTimeout))
	c.acks.sendWelcome()
	if c.in.isClosing() {
		c.in.sayGoodbye() // What the writer sends until it hears that is handled.
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

// leaveSession lets go of the writer, once everything that can be said to it is said.
func (c *stream) leaveSession() {
	handled := uint64(0)
	if c.legacy != nil {
		handled = c.legacy.writer.handled
	}
	if c.acks != nil {
		handled = c.acks.handled()
		if err := c.acks.close(); errors.Is(err, errBackpressure) {
			c.server.report(opSession, c.where(), err)
		}
	}
	if c.claim != nil {
		c.claim.release(handled, c.tried.of(handled+1))
	}
}
