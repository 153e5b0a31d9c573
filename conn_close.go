// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the end of a Conn.

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// takenInterval is how often Close looks whether the peer's system has taken everything.
const takenInterval = time.Millisecond

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
		c.closeErr = asOpError(OpStop, c.where, firstError(c.finishSending(ctx), c.partGently(ctx)))
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
	half, ok := c.conn.(interface{ CloseWrite() error })
	if !ok {
		return asOpError(OpWrite, c.where, errors.ErrUnsupported)
	}
	if !isTLS(c.conn) {
		return asOpError(OpWrite, c.where, half.CloseWrite())
	}
	ended := make(chan error, 1)
	go func() { ended <- half.CloseWrite() }() // Ends with the connection at the latest.
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	select {
	case err := <-ended:
		return asOpError(OpWrite, c.where, err)
	case <-timer.C:
		return asOpError(OpWrite, c.where, fmt.Errorf("%w: it has not taken the end of TLS within %v (WithWriteTimeout)", ErrBackpressure, c.patience))
	}
}

// finishSending refuses further messages, and waits for those that are queued.
func (c *Conn) finishSending(ctx context.Context) error {
	c.queue.close()
	flushed := c.queue.flushed()
	if !c.await(ctx, func() bool {
		select {
		case <-flushed:
			return true
		default:
			return false
		}
	}, flushed) {
		_ = c.queue.seal(nil)
	}
	counts, _ := c.queue.snapshot()
	if counts.undelivered == 0 {
		return nil
	}
	var err error = ErrBackpressure
	if why := c.sendErr.Load(); why != nil && ctx.Err() == nil {
		err = why.Err
	}
	return fmt.Errorf("%d messages were not sent within %v (WithWriteTimeout): %w", counts.undelivered, c.patience, err)
}

// partGently tells the peer that nothing more comes, and has its system take what was sent. For anything but TCP there
// is nothing to wait for.
func (c *Conn) partGently(ctx context.Context) error {
	if c.sendErr.Load() != nil {
		return nil
	}
	endSending(c.conn)
	var failed error
	_ = c.await(ctx, func() (acknowledged bool) {
		acknowledged, failed = acknowledgedByTCP(c.conn)
		return acknowledged || failed != nil
	}, nil)
	switch {
	case failed != nil:
		return failed
	case ctx.Err() != nil:
		return fmt.Errorf("%w: its system has not taken everything within %v (WithWriteTimeout)", ErrBackpressure, c.patience)
	}
	return nil
}

// await waits for a fact, of which event may tell, and throws away what comes over TCP meanwhile. It says no if ctx ended
// first.
func (c *Conn) await(ctx context.Context, fact func() bool, event <-chan struct{}) bool {
	var tick <-chan time.Time
	var scratch []byte
	for tcp := isTCP(c.conn); !fact(); {
		if tcp && tick == nil {
			ticker := time.NewTicker(takenInterval)
			defer ticker.Stop()
			tick, scratch = ticker.C, make([]byte, 16<<10)
		}
		select {
		case <-event:
		case <-tick:
			c.discard(scratch)
		case <-ctx.Done():
			return fact()
		}
	}
	return true
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
