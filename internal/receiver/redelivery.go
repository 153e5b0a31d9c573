// SPDX-License-Identifier: Apache-2.0

package receiver

// This file redelivers a message of a session whose handler failed, and makes it a dead letter in
// the end.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// The attempts count the failures of the handler for one message, on all connections of its writer.
type attempts struct {
	seq   uint64
	count int
}

// countFor returns the number of failures for the message seq.
func (a attempts) countFor(message uint64) int {
	if a.seq != message {
		return 0
	}
	return a.count
}

// Pauses before a redelivery: each is redeliveryGrowth times the one before.
const (
	minRedeliveryPause = 10 * time.Millisecond
	maxRedeliveryPause = time.Second
	redeliveryGrowth   = 4
)

// redeliver calls the handler again for a message for which it failed with err, after growing pauses, and
// makes it a dead letter in the end. The messages behind it wait. If the connection is ended meanwhile,
// the message is not handled, and its attempts count on the next connection.
func (c *stream) redeliver(data []byte, err error) {
	c.acks.MarkFailed()
	first := c.redelivered
	c.seq = c.acks.Seq()
	c.redelivered = true
	defer func() { c.redelivered = first }()
	c.attempts = attempts{seq: c.seq, count: c.attempts.countFor(c.seq) + 1}
	for c.attempts.count <= c.server.cfg.MaxRedeliveries {
		if !c.pause(redeliveryPause(c.attempts.count)) {
			c.in.Halt()
			return
		}
		c.server.counts.redelivered.Add(1)
		if err = c.redeliverOnce(data); err == nil {
			c.acks.MarkHandled()
			return
		}
		c.attempts.count++
	}
	c.toDeadLetter(data, err)
}

// redeliveryPause returns the pause after a number of failures.
func redeliveryPause(failures int) time.Duration {
	pause := minRedeliveryPause
	for range failures - 1 {
		if pause *= redeliveryGrowth; pause >= maxRedeliveryPause {
			return maxRedeliveryPause
		}
	}
	return pause
}

// pause waits. It returns false if the connection is fenced, or after a forced stop.
func (c *stream) pause(d time.Duration) bool {
	c.inHandler.Store(false)
	defer c.inHandler.Store(true)
	return c.sleep(d)
}

// sleep is pause outside of deliver.
func (c *stream) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.fenced:
	case <-c.server.forceCtx.Done():
	}
	return false
}

// redeliverOnce calls the handler again for a message that it has failed for.
func (c *stream) redeliverOnce(data []byte) (err error) {
	c.redeliveries.Add(1)
	returned := false
	defer func() {
		if !returned {
			err = c.panicked(recover())
		}
	}()
	if c.sink.Message != nil {
		err = c.sink.Message(c.server.forceCtx, data, c.seq, c.redelivered)
	} else {
		err = c.server.cfg.Message(data)
	}
	if returned = true; err != nil {
		c.reportHandlerError(err)
	}
	return err
}

// toDeadLetter gives up a message. It then counts as handled.
func (c *stream) toDeadLetter(data []byte, err error) {
	c.acks.MarkHandled()
	c.onDeadLetter(c.seq, err)
	if c.sink.DeadLetter == nil {
		return
	}
	returned := false
	defer func() {
		if !returned {
			_ = c.panicked(recover()) // panicked reports it.
			c.acks.MarkHandled()
			c.handlerErr = nil
		}
	}()
	c.sink.DeadLetter(data, c.seq, err)
	returned = true
}

// onDeadLetter counts and reports a dead letter.
func (c *stream) onDeadLetter(seq uint64, err error) {
	c.server.counts.deadLetters.Add(1)
	c.server.Report(errdefs.OpHandle, c.addrText(), &errdefs.Note{
		Kind: errdefs.NoteDeadLetter, Messages: 1,
		Err: fmt.Errorf("message %d of writer %v is a dead letter after %d redeliveries (WithMaxRedeliveries): %w",
			seq, c.writer, c.server.cfg.MaxRedeliveries, asHandlerError(err)),
	})
}
