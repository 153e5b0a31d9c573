// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the sending direction of a Conn, and its end. sender.Inline writes the queued messages.

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/sender"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// WriteMessage copies data and returns; the caller may reuse it at once. On an idle socket, the
// kernel has the message when it returns (not with TLS or another kind of net.Conn). On a busy one,
// the message is sent together with others, in as few system calls as possible. If the queue is
// full (WithMaxBufferedWrites, WithMaxBufferedBytes), WithOverflow applies: by default WriteMessage
// waits for space until the write deadline.
//
// A nil error does not mean that the peer has the message. The errors are ErrMessageTooLarge;
// ErrBufferFull, with os.ErrDeadlineExceeded after a deadline; and ErrConnectionClosed with its
// cause, which is final.
func (c *Conn) WriteMessage(data []byte) error {
	if uint64(len(data)) > c.limit {
		return asOpError(OpWrite, c.where, errdefs.OverLimit(uint64(len(data)), c.limit))
	}
	_, idle, err := c.queue.Enqueue(data)
	for c.blockWhenFull && (errdefs.IsBufferFull(err) || errors.Is(err, sender.ErrDeadlineChanged)) {
		_, idle, err = c.queue.EnqueueWait(c.writeDeadline.Context(), data)
	}
	if idle {
		c.out.Send()
	}
	if err == nil {
		return nil
	}
	return c.writeError(err)
}

// TryWriteMessage is WriteMessage, but never waits for space: it returns ErrBufferFull.
func (c *Conn) TryWriteMessage(data []byte) error { return c.writeNow(data, c.queue.Enqueue) }

// writeNow writes a message that enqueue accepts without waiting.
func (c *Conn) writeNow(data []byte, enqueue func([]byte) (uint64, bool, error)) error {
	if uint64(len(data)) > c.limit {
		return asOpError(OpWrite, c.where, errdefs.OverLimit(uint64(len(data)), c.limit))
	}
	_, idle, err := enqueue(data)
	if idle {
		c.out.Send()
	}
	if err == nil || errdefs.IsBufferFull(err) {
		return err
	}
	return c.writeError(err)
}

// refuse tells the peer that this side does not understand what it sends. A plain Writer takes it as
// the goodbye and the report of a Reader.
func (c *Conn) refuse() {
	if c.refused.Swap(true) {
		return
	}
	report := wire.CloseReport{Reason: wire.CloseNotReader, FirstUnread: 1, Limit: c.limit}
	for _, message := range [][]byte{nil, report.Body()} {
		if _, idle, err := c.queue.EnqueueControl(message); err == nil && idle {
			c.out.Send()
		}
	}
}

// writeError says why a message was not taken.
func (c *Conn) writeError(err error) error {
	if errors.Is(err, errdefs.ErrStopped) {
		if why := c.sendErr.Load(); why != nil {
			return why
		}
		err = fmt.Errorf("%w: by this side: %w", errdefs.ErrConnectionClosed, net.ErrClosed)
	}
	return asOpError(OpWrite, c.where, err)
}

// Dropped returns the number of messages that OverflowDropOldest has dropped.
func (c *Conn) Dropped() uint64 {
	counts, _ := c.queue.Snapshot()
	return counts.Dropped
}

// Flush blocks until the kernel has taken all earlier messages, or ctx ends.
func (c *Conn) Flush(ctx context.Context) error {
	if err := c.queue.Flush(ctx); err != nil {
		return opError(OpFlush, c.where, err)
	}
	if why := c.sendErr.Load(); why != nil {
		return why
	}
	return asOpError(OpFlush, c.where, c.queue.UndeliveredErr())
}

// failSending notes why nothing can be sent any more.
func (c *Conn) failSending(err error) {
	if c.sendFailed != nil && transport.ReadableAfter(c.conn, err) {
		close(c.sendFailed) // What the peer has sent can still be read, and after that its end.
		return
	}
	c.sendErr.CompareAndSwap(nil, asOpError(OpWrite, c.where, err).(*OpError))
	if c.sendFailed != nil {
		c.forceClose()
		close(c.sendFailed)
		return
	}
	c.queue.DiscardAll(nil)
	if errors.Is(err, errdefs.ErrBackpressure) {
		if c.stalledCount != nil {
			c.stalledCount.Add(1)
		}
		c.forceClose() // Whoever reads is told.
	}
}

// Close ends the connection. It first writes the queued messages; over TCP, it then waits until the
// peer's kernel has all bytes. Both together take at most WithWriteTimeout. The error has the
// number of unsent messages, also if an earlier write had failed. Close unblocks running reads and
// writes. It may be called again, and returns the same error.
//
// Over TCP, messages that the peer sends meanwhile and that no call reads are discarded, because
// closing a socket with unread bytes discards sent bytes (RFC 1122, 4.2.2.13). On a Unix socket
// they stay unread, and the peer sees that (ECONNRESET on Linux). For another kind of net.Conn, the
// fate of the last messages is unknown: let the peer reply, and read the reply before Close.
func (c *Conn) Close() error {
	c.closing.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), c.closeTimeout)
		defer cancel()
		release := context.AfterFunc(ctx, c.forceClose) // Whatever hangs ends with the connection.
		c.closeErr = asOpError(OpStop, c.where, c.out.Finish(ctx, c.discardInput))
		release()
		c.forceClose()
		c.reading.Lock()
		c.in.AbandonBuffer()
		c.reading.Unlock()
		close(c.closed)
		if c.ended != nil {
			c.ended()
		}
	})
	return c.closeErr
}

// CloseWrite closes the sending side: the peer reads io.EOF after the messages that were sent, and
// this side may still read. Queued messages are not sent: call Flush before. The error is
// errors.ErrUnsupported for a connection without half-close, and ErrBackpressure for TLS if the
// peer makes no space for the notice within WithWriteTimeout.
func (c *Conn) CloseWrite() error {
	c.queue.Close()
	return asOpError(OpWrite, c.where, transport.CloseWriteWithin(c.conn, c.closeTimeout))
}

// discardInput throws away what lies in the socket, unless somebody reads it.
func (c *Conn) discardInput(scratch []byte) {
	if !c.reading.TryLock() {
		return
	}
	defer c.reading.Unlock()
	if transport.DiscardUnread(c.conn, scratch) {
		c.isClosing.Store(true) // What is missing cannot be read.
	}
}

// forceClose ends the connection at once.
func (c *Conn) forceClose() {
	c.isClosing.Store(true)
	transport.CloseNow(c.conn)
	c.in.CancelWait()
}
