// SPDX-License-Identifier: Apache-2.0

package receiver

// This file opens and closes the session of a stream: hello, welcome, and the ownership of the
// writer state.

import (
	"errors"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// openSession makes the session handshake with a writer that asks for acknowledgements. It returns false
// if the connection ends.
func (c *stream) openSession() bool {
	h, err := c.readHello()
	if err == nil && c.in.IsClosing() {
		c.in.SendReport() // No message may be sent before the welcome, so none is lost.
		return false
	}
	if err == nil {
		err = c.welcome(h)
	}
	switch {
	case err == nil:
		return true
	case errors.Is(err, transport.ErrGracefulEnd):
		return false
	case errors.Is(err, wire.ErrVersionQuery):
		c.in.RejectSession(wire.StatusVersion)
		return false // A question is no error.
	case errors.Is(err, wire.ErrVersion):
		c.in.RejectSession(wire.StatusVersion)
	case errors.Is(err, errOldEpoch):
		c.in.RejectSession(wire.StatusOldEpoch)
	default:
		c.server.counts.malformed.Add(1)
	}
	c.server.Report(errdefs.OpOpenSession, c.addrText(), err)
	return false
}

// readHello waits for the complete hello. ErrGracefulEnd means that the connection ended before,
// and was accounted for.
func (c *stream) readHello() (wire.Hello, error) {
	for {
		h, whole, err := c.in.Hello()
		if whole {
			return h, err
		}
		if err := c.in.Fill(); err != nil && !c.onReadError(err) {
			return h, transport.ErrGracefulEnd
		}
	}
}

// welcome acquires the writer state for this connection, and sends the welcome.
func (c *stream) welcome(h wire.Hello) error {
	c.fenced = make(chan struct{})
	owner, err := c.server.writerStates.acquire(c.peer.Identity(), h, c.fence)
	if err != nil {
		return err
	}
	c.ownership = owner
	heartbeatInterval := h.HeartbeatTimeout / wire.HeartbeatsPerTimeout
	handled, repeats, failures, err := owner.waitForPrevious(c.server.forceCtx, heartbeatInterval, c.in.SendHeartbeat)
	if err != nil {
		return err
	}
	if handled >= h.FirstSeq {
		c.server.counts.duplicates.Add(handled - h.FirstSeq + 1)
	}
	c.writer = h.Writer
	c.attempts = attempts{seq: handled + 1, count: failures}
	c.beginSession(handled, repeats, heartbeatInterval, c.in.RequiredHeartbeatTimeout(c.server.cfg.HeartbeatTimeout))
	c.acks.SendWelcome()
	if c.in.IsClosing() {
		c.in.SendGoodbye() // What the writer sends before it receives the goodbye is handled.
	}
	return nil
}

// beginSession continues after the message handled. An earlier reader may have handled messages up
// to repeats.
func (c *stream) beginSession(handled, repeats uint64, heartbeatInterval, heartbeatTimeout time.Duration) {
	c.acks = c.in.BeginSession(handled, repeats, heartbeatInterval, heartbeatTimeout)
	c.seq = handled
	if c.batch.batcher != nil {
		c.acks.BeginBatches()
	}
	if c.sink.Session != nil {
		c.sink.Session(c.writer)
	}
	if c.handle = c.handleMessageAcked; c.sink.Message != nil {
		c.handle = c.handleDeliveryAcked
	}
	c.server.counts.sessions.Add(1)
}

// fence ends the connection because the same writer has opened a newer one.
func (c *stream) fence() {
	close(c.fenced)
	c.in.Halt()
}

// closeSession releases the writer state, after the last acknowledgement.
func (c *stream) closeSession() {
	handled := uint64(0)
	if c.inherited != nil {
		handled = c.inherited.Writer.Handled
	}
	offered := handled
	if c.acks != nil {
		handled, offered = c.acks.Handled(), c.acks.Seq()
		if err := c.acks.Close(); errors.Is(err, errdefs.ErrBackpressure) {
			c.server.Report(errdefs.OpOpenSession, c.addrText(), err)
		}
	}
	if c.ownership != nil {
		c.ownership.release(handled, offered, c.attempts.countFor(handled+1))
	}
}
