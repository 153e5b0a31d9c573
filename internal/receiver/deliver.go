// SPDX-License-Identifier: Apache-2.0

package receiver

// This file calls the handler for the messages of a stream, and handles its errors. In a session,
// redelivery.go continues from there.

import (
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// deliver handles the buffered messages. A handler that panics or ends its goroutine fails only for
// its message: another goroutine calls deliver again.
func (c *stream) deliver() error {
	c.inHandler.Store(true)
	defer c.inHandler.Store(false)
	if c.acks != nil {
		c.acks.BeforeBatch()
		defer c.acks.AfterBatch()
	}
	for {
		if err := c.handlerErr; err != nil && c.acks != nil {
			c.redeliver(c.in.LastMessage(), err)
		}
		c.handlerErr = nil
		if done, err := c.deliverUntilPanic(); done {
			return err
		}
	}
}

func (c *stream) deliverUntilPanic() (done bool, err error) {
	defer func() {
		if !done && !c.goexited { // Otherwise it was a redelivery or a dead letter.
			c.server.counts.panics.Add(1)
			c.handlerErr = c.panicked(recover())
		}
	}()
	err = c.in.Deliver(c.handle)
	return true, err
}

// panicked reports a panic of the handler, or that it ended the goroutine (nil value). The message
// is not handled yet.
func (c *stream) panicked(value any) error {
	err := panicError(value)
	if value == nil {
		c.goexited, c.handlerErr = true, err
	}
	if c.acks != nil {
		c.acks.MarkFailed()
	}
	c.server.Report(errdefs.OpHandle, c.addrText(), err)
	return err
}

// panicError is the error for a panic of a handler, or for the end of its goroutine (nil value).
func panicError(value any) error {
	if value == nil {
		return fmt.Errorf("%w: it ended its goroutine (runtime.Goexit)\n%s", errdefs.ErrHandlerFailed, debug.Stack())
	}
	return fmt.Errorf("%w: panic: %v\n%s", errdefs.ErrHandlerFailed, value, debug.Stack())
}

// messageHandler returns the function for each message of a plain connection.
func (c *stream) messageHandler() func(data []byte) {
	message := c.server.cfg.Message // Once, instead of for each message.
	return func(data []byte) {
		if err := message(data); err != nil {
			c.onHandlerError(err)
		}
	}
}

func (c *stream) handleDelivery(data []byte) {
	c.seq++
	if err := c.sink.Message(c.server.forceCtx, data, c.seq, c.redelivered); err != nil {
		c.onHandlerError(err)
	}
}

func (c *stream) handleMessageAcked(data []byte) {
	c.acks.BeforeMessage()
	if c.acks.MayRepeat() {
		c.markRedelivered()
	}
	if err := c.server.cfg.Message(data); err != nil {
		c.onHandlerError(err)
		c.redeliver(data, err)
	}
}

func (c *stream) handleDeliveryAcked(data []byte) {
	c.seq++
	c.acks.BeforeMessage()
	if c.acks.MayRepeat() {
		c.markRedelivered()
	}
	if err := c.sink.Message(c.server.forceCtx, data, c.seq, c.redelivered); err != nil {
		c.onHandlerError(err)
		c.redeliver(data, err)
	}
}

// markRedelivered sets Redelivered for messages that an earlier reader may have handled.
func (c *stream) markRedelivered() {
	if c.redelivered = c.acks.IsRedelivered(); c.redelivered {
		c.server.counts.redelivered.Add(1)
	}
}

// onHandlerError handles the handler's error for the first delivery of a message.
func (c *stream) onHandlerError(err error) {
	c.server.counts.handlerErrors.Add(1)
	c.reportHandlerError(err)
}

// reportHandlerError reports a handler's error.
func (c *stream) reportHandlerError(err error) {
	c.server.Report(errdefs.OpHandle, c.addrText(), asHandlerError(err))
}

// asHandlerError returns err as the error of a handler, which it may be already.
func asHandlerError(err error) error {
	if errors.Is(err, errdefs.ErrHandlerFailed) {
		return err
	}
	return fmt.Errorf("%w: %w", errdefs.ErrHandlerFailed, err)
}
