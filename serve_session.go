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
func (c *readerConn) openSession() bool {
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
		c.reader.counts.malformed.Add(1)
	}
	c.reader.report(opSession, c.where(), err)
	return false
}

// readHello waits for the whole hello. errEnded means that the connection ended before, which is
// accounted for.
func (c *readerConn) readHello() (hello, error) {
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
func (c *readerConn) welcome(h hello) error {
	c.fenced = make(chan struct{})
	claim, err := c.reader.writers.claim(c.peer.identity(), h, c.fence)
	if err != nil {
		return err
	}
	c.claim = claim
	beat := h.silence / beatsPerSilence
	handled, repeats, failures, err := claim.wait(c.reader.handling, beat, c.in.sendHeartbeat)
	if err != nil {
		return err
	}
	if handled >= h.first {
		c.reader.counts.duplicates.Add(handled - h.first + 1)
	}
	c.delivery.Writer = WriterID(h.writer)
	c.tried = attempts{message: handled + 1, count: failures}
	c.beginSession(handled, repeats, beat, c.in.heartbeatTimeout(c.reader.cfg.peerTimeout))
	c.acks.sendWelcome()
	if c.in.isClosing() {
		c.in.sayGoodbye() // What the writer sends until it hears that is handled.
	}
	return nil
}

// beginSession goes on behind the message handled; up to repeats, an earlier reader may have handled others.
func (c *readerConn) beginSession(handled, repeats uint64, beat, silence time.Duration) {
	c.acks = c.in.beginSession(handled, repeats, beat, silence)
	c.delivery.Seq = handled
	if c.handle = c.handleMessageAcked; c.reader.deliver != nil {
		c.handle = c.handleDeliveryAcked
	}
	c.reader.counts.sessions.Add(1)
}

// fence ends the connection for a newer one of the same writer.
func (c *readerConn) fence() {
	close(c.fenced)
	c.in.halt()
}

// leaveSession lets go of the writer, once everything that can be said to it is said.
func (c *readerConn) leaveSession() {
	handled := uint64(0)
	if c.legacy != nil {
		handled = c.legacy.writer.handled
	}
	if c.acks != nil {
		handled = c.acks.handled()
		if err := c.acks.close(); errors.Is(err, errBackpressure) {
			c.reader.report(opSession, c.where(), err)
		}
	}
	if c.claim != nil {
		c.claim.release(handled, c.tried.of(handled+1))
	}
}

func (c *readerConn) handleMessageAcked(data []byte) {
	c.acks.count()
	if c.acks.mayRepeat() {
		c.flagRepeats()
	}
	if err := c.reader.message(data); err != nil {
		c.failed(err)
		c.redeliver(data, err)
	}
}

func (c *readerConn) handleDeliveryAcked(data []byte) {
	c.delivery.Data = data
	c.delivery.Seq++
	c.acks.count()
	if c.acks.mayRepeat() {
		c.flagRepeats()
	}
	c.given = c.delivery
	if err := c.reader.deliver(c.reader.handling, &c.given); err != nil {
		c.failed(err)
		c.redeliver(data, err)
	}
}

// flagRepeats marks what an earlier reader may have handled, as long as that may be.
func (c *readerConn) flagRepeats() {
	if c.delivery.Redelivered = c.acks.repeated(); c.delivery.Redelivered {
		c.reader.counts.redelivered.Add(1)
	}
}

// redeliver offers a message again for which the handler failed with err, after growing pauses, and
// makes it a dead letter in the end. The messages behind it wait. If the connection is ended meanwhile,
// the message is not handled, and its attempts count on the next connection.
func (c *readerConn) redeliver(data []byte, err error) {
	c.acks.markFailed()
	first := c.delivery.Redelivered
	c.delivery.Data = data
	c.delivery.Seq = c.acks.seq()
	c.delivery.Redelivered = true
	defer func() { c.delivery.Redelivered = first }()
	c.tried = attempts{message: c.delivery.Seq, count: c.tried.of(c.delivery.Seq) + 1}
	for c.tried.count <= c.reader.cfg.maxRedeliveries {
		if !c.pause(redeliveryPause(c.tried.count)) {
			c.in.halt()
			return
		}
		c.reader.counts.redelivered.Add(1)
		if err = c.offer(); err == nil {
			c.acks.markHandled()
			return
		}
		c.tried.count++
	}
	c.bury(err)
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
func (c *readerConn) pause(d time.Duration) bool {
	c.handling.Store(false)
	defer c.handling.Store(true)
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.fenced:
	case <-c.reader.handling.Done():
	}
	return false
}

// offer calls the handler for a message that it has failed for.
func (c *readerConn) offer() (err error) {
	c.offers.Add(1)
	returned := false
	defer func() {
		if !returned {
			err = c.panicked(recover())
		}
	}()
	c.given = c.delivery
	if c.reader.deliver != nil {
		err = c.reader.deliver(c.reader.handling, &c.given)
	} else {
		err = c.reader.message(c.given.Data)
	}
	if returned = true; err != nil {
		c.blame(err)
	}
	return err
}

// bury gives up on a message, which is handled by that.
func (c *readerConn) bury(err error) {
	c.acks.markHandled()
	c.reader.counts.deadLetters.Add(1)
	c.reader.report(opHandle, c.where(), fmt.Errorf("message %d of writer %v is a dead letter after %d redeliveries (WithMaxRedeliveries): %w: %w",
		c.delivery.Seq, c.delivery.Writer, c.reader.cfg.maxRedeliveries, errHandlerFailed, err))
	if c.reader.cfg.deadLetter == nil {
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
	c.given = c.delivery
	c.reader.cfg.deadLetter(&c.given, err)
	returned = true
}
