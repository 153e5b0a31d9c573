// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a Reader does otherwise in a session: the welcome, the messages that are offered
// again, and the dead letters.

import (
	"errors"
	"fmt"
	"time"
)

// The attempts at a message: how often the handler has failed for it, on all connections of its writer together.
type attempts struct {
	message uint64
	count   int
}

// of returns how often the handler has failed for this message.
func (a attempts) of(message uint64) int {
	if a.message != message {
		return 0
	}
	return a.count
}

// Pauses before a message is offered again: each is redeliveryGrowth times the one before.
const (
	minRedeliveryPause = 10 * time.Millisecond
	maxRedeliveryPause = time.Second
	redeliveryGrowth   = 4
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

func (c *stream) handleMessageAcked(data []byte) {
	c.acks.count()
	if c.acks.mayRepeat() {
		c.flagRepeats()
	}
	if err := c.server.cfg.message(data); err != nil {
		c.failed(err)
		c.redeliver(data, err)
	}
}

func (c *stream) handleDeliveryAcked(data []byte) {
	c.seq++
	c.acks.count()
	if c.acks.mayRepeat() {
		c.flagRepeats()
	}
	if err := c.sink.message(c.server.handling, data, c.seq, c.redelivered); err != nil {
		c.failed(err)
		c.redeliver(data, err)
	}
}

// flagRepeats marks what an earlier reader may have handled, as long as that may be.
func (c *stream) flagRepeats() {
	if c.redelivered = c.acks.repeated(); c.redelivered {
		c.server.counts.redelivered.Add(1)
	}
}

// redeliver offers a message again for which the handler failed with err, after growing pauses, and
// makes it a dead letter in the end. The messages behind it wait. If the connection is ended meanwhile,
// the message is not handled, and its attempts count on the next connection.
func (c *stream) redeliver(data []byte, err error) {
	c.acks.markFailed()
	first := c.redelivered
	c.seq = c.acks.seq()
	c.redelivered = true
	defer func() { c.redelivered = first }()
	c.tried = attempts{message: c.seq, count: c.tried.of(c.seq) + 1}
	for c.tried.count <= c.server.cfg.maxRedeliveries {
		if !c.pause(redeliveryPause(c.tried.count)) {
			c.in.halt()
			return
		}
		c.server.counts.redelivered.Add(1)
		if err = c.offer(data); err == nil {
			c.acks.markHandled()
			return
		}
		c.tried.count++
	}
	c.bury(data, err)
}

// redeliveryPause is how long to wait after so many failures.
func redeliveryPause(failures int) time.Duration {
	pause := minRedeliveryPause
	for range failures - 1 {
		if pause *= redeliveryGrowth; pause >= maxRedeliveryPause {
			return maxRedeliveryPause
		}
	}
	return pause
}

// pause waits, unless the connection is ended for a newer one, or the Reader for good.
func (c *stream) pause(d time.Duration) bool {
	c.handling.Store(false)
	defer c.handling.Store(true)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.fenced:
	case <-c.server.handling.Done():
	}
	return false
}

// offer calls the handler for a message that it has failed for.
func (c *stream) offer(data []byte) (err error) {
	c.offers.Add(1)
	returned := false
	defer func() {
		if !returned {
			err = c.panicked(recover())
		}
	}()
	if c.sink.message != nil {
		err = c.sink.message(c.server.handling, data, c.seq, c.redelivered)
	} else {
		err = c.server.cfg.message(data)
	}
	if returned = true; err != nil {
		c.blame(err)
	}
	return err
}

// bury gives up on a message, which is handled by that.
func (c *stream) bury(data []byte, err error) {
	c.acks.markHandled()
	c.server.counts.deadLetters.Add(1)
	c.server.report(opHandle, c.where(), fmt.Errorf("message %d of writer %v is a dead letter after %d redeliveries (WithMaxRedeliveries): %w: %w",
		c.seq, c.writer, c.server.cfg.maxRedeliveries, errHandlerFailed, err))
	if c.sink.deadLetter == nil {
		return
	}
	returned := false
	defer func() {
		if !returned {
			_ = c.panicked(recover()) // It is reported.
			c.acks.markHandled()
			c.failure = nil
		}
	}()
	c.sink.deadLetter(data, c.seq, err)
	returned = true
}
