// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the sending direction of a Conn, and its end. sender_inline.go writes what is queued.

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

// writeNow writes a message that put takes into the queue without waiting.
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
	err = asOpError(OpWrite, c.where, err)
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

// Close ends the connection. What is queued is written first; over TCP, it then waits until the peer's system has taken
// everything. Both together take no longer than WithWriteTimeout, and the error tells how many messages were left, also if
// writing had failed before. It wakes whoever reads or writes. It may be called again, and returns the same.
//
// What the peer sends meanwhile, and nobody reads, is thrown away over TCP, because a socket that is closed with bytes in
// it takes back what it has sent (RFC 1122, 4.2.2.13). On a Unix socket it stays unread, and the peer is told that it was
// (ECONNRESET on Linux). Over a net.Conn of another kind nothing is known of what becomes of the last messages: have the
// peer answer them, and read that before Close.
func (c *Conn) Close() error {
	c.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), c.patience)
		defer cancel()
		release := context.AfterFunc(ctx, c.abandon) // Whatever hangs ends with the connection.
		c.closeErr = asOpError(OpStop, c.where, c.out.finish(ctx, c.discard))
		release()
		c.abandon()
		c.reading.Lock()
		c.in.drop()
		c.reading.Unlock()
		close(c.closed)
		if c.ended != nil {
			c.ended()
		}
	})
	return c.closeErr
}

// CloseWrite refuses further messages and ends this side's direction: the peer reads io.EOF behind what was sent, and
// this side may read on. What is still queued is not sent: call Flush before. The error is errors.ErrUnsupported for a
// connection that cannot be ended in one direction, and ErrBackpressure for one over TLS whose peer has not made room
// for the notice within WithWriteTimeout.
func (c *Conn) CloseWrite() error {
	c.queue.close()
	return asOpError(OpWrite, c.where, closeWriteWithin(c.conn, c.patience))
}

// discard throws away what lies in the socket, unless somebody reads it.
func (c *Conn) discard(scratch []byte) {
	if !c.reading.TryLock() {
		return
	}
	defer c.reading.Unlock()
	if discardUnread(c.conn, scratch) {
		c.over.Store(true) // What is missing cannot be read.
	}
}

// abandon ends the connection at once.
func (c *Conn) abandon() {
	c.over.Store(true)
	closeNow(c.conn)
	c.in.leave()
}
