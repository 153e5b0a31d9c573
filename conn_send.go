// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the sending direction of a Conn. sender_inline.go writes what is queued.

import (
	"context"
	"errors"
	"fmt"
	"net"
)

// WriteMessage copies data and returns; the caller may reuse it at once. On an idle socket the message is with
// the kernel by then, but not over TLS or a net.Conn of another kind; on a busy one it goes out with what others send, in as few system calls as possible. If the queue is at
// one of its bounds (WithMaxBufferedWrites, WithMaxBufferedBytes), WithOverflow says what happens: by default it waits
// for room, until the write deadline.
//
// A nil error does not mean that the peer has the message. The errors are ErrMessageTooLarge; ErrBufferFull, with
// os.ErrDeadlineExceeded if a deadline passed; and ErrConnectionClosed with its cause, for good.
func (c *Conn) WriteMessage(data []byte) error {
	if uint64(len(data)) > c.limit {
		return asOpError(OpWrite, c.where, overLimit(uint64(len(data)), c.limit))
	}
	_, idle, err := c.queue.put(data)
	for c.block && (err == errBufferFull || errors.Is(err, errDeadlineChanged)) {
		_, idle, err = c.queue.putWait(c.deadline.context(), data)
	}
	if idle {
		c.out.send()
	}
	if err == nil {
		return nil
	}
	return c.writeError(err)
}

// TryWriteMessage is WriteMessage that never waits for room: it returns ErrBufferFull instead.
func (c *Conn) TryWriteMessage(data []byte) error { return c.writeNow(data, c.queue.put) }

// WriteControl is WriteMessage for what ends or frees something at the peer. The bounds of the queue do not hold for
// it, so it neither waits nor is refused before the end of the connection. Its caller bounds how many there are.
func (c *Conn) WriteControl(data []byte) error { return c.writeNow(data, c.queue.putControl) }

func (c *Conn) writeNow(data []byte, put func([]byte) (uint64, bool, error)) error {
	if uint64(len(data)) > c.limit {
		return asOpError(OpWrite, c.where, overLimit(uint64(len(data)), c.limit))
	}
	_, idle, err := put(data)
	if idle {
		c.out.send()
	}
	if err == nil || err == errBufferFull {
		return err
	}
	return c.writeError(err)
}

// Room returns nil if the queue is below its bounds, and otherwise a channel that is closed once there is room again, or
// the connection has ended.
func (c *Conn) Room() <-chan struct{} { return c.queue.awaitRoom() }

// writeError says why a message was not taken.
func (c *Conn) writeError(err error) error {
	if errors.Is(err, errStopped) {
		if why := c.sendErr.Load(); why != nil {
			return why
		}
		err = fmt.Errorf("%w: by this side: %w", errConnectionClosed, net.ErrClosed)
	}
	return asOpError(OpWrite, c.where, err)
}

// Dropped returns how many messages OverflowDropOldest has dropped.
func (c *Conn) Dropped() uint64 {
	counts, _ := c.queue.snapshot()
	return counts.dropped
}

// Flush waits until the kernel has taken everything that was written before, or until ctx ends.
func (c *Conn) Flush(ctx context.Context) error {
	if err := c.queue.flush(ctx); err != nil {
		return asOpError(OpFlush, c.where, err)
	}
	if why := c.sendErr.Load(); why != nil {
		return why
	}
	return asOpError(OpFlush, c.where, c.queue.given())
}

// failSending notes why nothing can be sent any more.
func (c *Conn) failSending(err error) {
	if c.unsent != nil {
		if !readableAfter(c.conn, err) {
			c.abandon()
		} // Else what the peer has sent can still be read, and after that its end.
		close(c.unsent)
		return
	}
	stalled := errors.Is(err, errBackpressure)
	err = asOpError(OpWrite, c.where, fmt.Errorf("%w: %w", errConnectionClosed, err))
	if op := (*OpError)(nil); errors.As(err, &op) {
		c.sendErr.CompareAndSwap(nil, op)
	}
	c.queue.seal(nil)
	if stalled {
		if c.stalls != nil {
			c.stalls.Add(1)
		}
		c.abandon() // Whoever reads is told.
	}
}
