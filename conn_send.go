// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the sending direction of a Conn. There is no goroutine that waits for messages: whoever finds the queue
// idle writes, what others add meanwhile included, as long as the kernel takes it at once. The rest is for a goroutine
// that lives until the queue is empty.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// maxFavours is how many writes a goroutine makes before somebody else goes on with those of others.
const maxFavours = 4

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
	for c.block && (err == errBufferFull || errors.Is(err, errRearmed)) {
		_, idle, err = c.queue.putWait(c.bound.context(), data)
	}
	if idle {
		c.drain()
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
		c.drain()
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

// drain writes what is queued, as long as that does not wait.
func (c *Conn) drain() {
	if c.in.raw == nil { // To try is not possible.
		go c.drainWaiting() // Ends with the queue or the connection.
		return
	}
	runtime.Gosched() // Others who are about to write can come along.
	for range maxFavours {
		bufs := c.queue.take(c.bufs[:0], batchSize)
		if len(bufs) == 0 {
			return
		}
		n, err := c.tryAll(bufs)
		_, _ = c.queue.written(n)
		switch {
		case errors.Is(err, syscall.EAGAIN):
			go c.drainWaiting() // Ends with the queue or the connection.
			return
		case err != nil:
			c.failSending(err)
			return
		}
	}
	go c.drainWaiting() // Ends with the queue or the connection.
}

// drainWaiting writes what is queued, and waits for the peer as long as it takes.
func (c *Conn) drainWaiting() {
	for {
		vector := net.Buffers(c.queue.take(c.bufs[:0], batchSize))
		if len(vector) == 0 {
			return
		}
		n, err := c.writeWaiting(vector)
		_, _ = c.queue.written(int(n))
		if err != nil {
			c.failSending(err)
			return
		}
	}
}

// writeWaiting writes some of vector, or all of it. A peer that takes nothing for too long is left.
func (c *Conn) writeWaiting(vector net.Buffers) (n int64, err error) {
	if c.stall == 0 {
		return vector.WriteTo(c.conn)
	}
	if c.in.raw == nil { // A part that was taken does not show: a TLS connection is corrupt after a timeout.
		vector = net.Buffers{vector[0][:min(len(vector[0]), stallPiece)]}
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(c.stall)); err != nil {
		return 0, err
	}
	n, err = vector.WriteTo(c.conn)
	switch {
	case !isTimeout(err):
	case n > 0 && c.in.raw != nil:
		err = nil
	case c.over.Load(): // TLS writes nothing more behind its end.
	default:
		return n, fmt.Errorf("%w: the peer has taken nothing for %v (WithStallTimeout)", errBackpressure, c.stall)
	}
	return n, firstError(err, c.conn.SetWriteDeadline(time.Time{})) // For whoever writes without waiting.
}

// stallPiece is what a peer behind TLS, or a connection of a user's own, has to take in the time of WithStallTimeout.
const stallPiece = 16 << 10

const _ = uint64(batchSize - stallPiece) // No constant of type uint64 is negative.

// tryAll writes bufs without waiting, and returns how many bytes the kernel took.
func (c *Conn) tryAll(bufs [][]byte) (n int, err error) {
	for _, c.pending = range bufs {
		for len(c.pending) > 0 {
			c.wrote, c.wroteErr = 0, nil // A connection that is closed is not even tried.
			err = c.in.raw.Write(c.attempt)
			n += c.wrote
			if err = firstError(c.wroteErr, err); err != nil {
				return n, err
			}
			c.pending = c.pending[c.wrote:]
		}
	}
	return n, nil
}

// tryWrite is one system call. It never asks to wait (net, syscall.RawConn).
func (c *Conn) tryWrite(fd uintptr) bool {
	c.wrote, c.wroteErr = writeDescriptor(fd, c.pending)
	return true
}

// failSending notes why nothing can be sent any more.
func (c *Conn) failSending(err error) {
	if c.unsent != nil {
		c.endReading(err)
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

// endReading has the Link that reads come to an end, and go on with the next connection. Where the peer takes nothing
// any more, what it has sent can still be read, and after that its end.
func (c *Conn) endReading(err error) {
	kind, _ := inspect(beneath(c.conn))
	if kind == otherConn || !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		c.abandon()
	}
}

// errWriteDeadline is why a wait for room ended: SetWriteDeadline.
var errWriteDeadline = fmt.Errorf("%w: the write deadline has passed", os.ErrDeadlineExceeded)

// errRearmed is why a wait for room begins anew: its deadline was changed.
var errRearmed = errors.New("udsipc: another deadline")

// A writeBound is the write deadline, as a context that is replaced whenever it is set.
type writeBound struct {
	mu     sync.Mutex      // Guards what follows.
	ctx    context.Context // nil before it was first needed.
	cancel context.CancelCauseFunc
}

func (b *writeBound) set(t time.Time) {
	ctx, cancel := context.WithCancelCause(context.Background())
	if !t.IsZero() {
		timed, release := context.WithDeadlineCause(ctx, t, errWriteDeadline)
		ctx = timed
		inner := cancel
		cancel = func(cause error) { inner(cause); release() }
	}
	b.mu.Lock()
	before := b.cancel
	b.ctx, b.cancel = ctx, cancel
	b.mu.Unlock()
	if before != nil {
		before(errRearmed)
	}
}

func (b *writeBound) context() context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ctx == nil {
		b.ctx, b.cancel = context.WithCancelCause(context.Background())
	}
	return b.ctx
}
