// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a session adds for a message that the handler fails for: it is offered again, and is a dead
// letter in the end.

import (
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
