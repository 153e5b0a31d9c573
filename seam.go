// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what package duplex needs of a Link, a Listener and a Conn, and users do not:
// the methods of package seam, which stay out of the public ones.

import (
	"context"
	"fmt"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/seam"
)

func init() {
	seam.NewBuffer = func(size int) seam.Buffer { return queue.NewBuffer(size) }
	seam.EndOf = errdefs.EndOf
	seam.OfLink = func(link any) seam.Link { return linkSeam{link.(*Link)} }
	seam.OfListener = func(listener any) seam.Listener { return listenerSeam{listener.(*Listener)} }
	seam.OfConn = func(conn any) seam.Conn { return connSeam{conn.(*Conn)} }
}

// A linkSeam is a Link with the methods of seam.Link.
type linkSeam struct{ *Link }

func (l linkSeam) Send(data []byte) (seq uint64, err error) { return l.send(data) }

func (l linkSeam) SendContext(ctx context.Context, data []byte) (seq uint64, err error) {
	return l.sendContext(ctx, data)
}

func (l linkSeam) EnqueueBuffer(b seam.Buffer, from, to int) (idle bool, err error) {
	if size := uint64(to - from); size > l.cfg.maxMessageSize {
		l.counts.tooLarge.Add(1)
		return false, errdefs.OverLimit(size, l.cfg.maxMessageSize)
	}
	_, idle, err = l.queue.EnqueueBuffer(b.(*queue.Buffer), from, to)
	return idle, err
}

func (l linkSeam) WriteQueued() { l.writeQueued() }

func (l linkSeam) SendControl(data []byte) (seq uint64, err error) {
	return l.sendUnbounded(data, l.queue.EnqueueControl)
}

func (l linkSeam) SendUnbounded(data []byte) (seq uint64, err error) {
	return l.sendUnbounded(data, l.queue.EnqueueUnbounded)
}

func (l linkSeam) KeepMessage() seam.Buffer { return l.readConn.keepMessage() }

func (l linkSeam) SentSeq() uint64 { return l.queue.RemovedThrough() }

func (l linkSeam) MaxMessageSize() uint64 { return l.cfg.maxMessageSize }

func (l linkSeam) Overflow() int { return int(l.cfg.overflow) }

func (l linkSeam) CloseContext() (context.Context, context.CancelFunc) { return l.cfg.closeContext() }

func (l linkSeam) WaitAttempt(ctx context.Context) error {
	err := l.life.WaitAttempt(ctx)
	if err == ErrStopped {
		return err
	}
	return asOpError(OpWaitConnected, l.cfg.addrText, err)
}

func (l linkSeam) OnDisconnect(callback func()) { l.onDisconnect = callback }

func (l linkSeam) OnTooLarge(callback func(e *seam.TooLarge)) { l.onTooLarge = callback }

func (l linkSeam) NoEmptyMessages() { l.noEmptyMessages = true }

func (l linkSeam) PublishAs(kind string, snapshot func() any, gauges ...string) {
	l.publication.SetSource(kind, snapshot, append(gauges, writerGauges...))
}

func (l linkSeam) Why() error {
	if l.State() == StateConnected {
		return nil
	}
	if why := l.life.Why(); why != nil {
		return asOpError(OpWaitConnected, l.cfg.addrText, fmt.Errorf("%w: %w", ErrNotConnected, why))
	}
	return nil
}

func (l linkSeam) WatchStop(ctx context.Context, what func() string) (ended func()) {
	return watchStop(ctx, func(err error) { l.Report(OpStop, err) }, what)
}

func (l linkSeam) Report(op string, err error) { l.cfg.events.report(op, l.cfg.addrText, err) }

// A listenerSeam is a Listener with the methods of seam.Listener.
type listenerSeam struct{ *Listener }

func (l listenerSeam) Shutdown() error { return publicError(l.server.Shutdown()) }

func (l listenerSeam) TellRejected() { l.server.TellRejected() }

func (l listenerSeam) PublishAs(kind string, snapshot func() any, gauges ...string) {
	l.publication.SetSource(kind, snapshot, append(gauges, readerGauges...))
}

func (l listenerSeam) Overflow() int { return int(l.cfg.overflow) }

func (l listenerSeam) CloseContext() (context.Context, context.CancelFunc) {
	return l.cfg.closeContext()
}

func (l listenerSeam) WatchStop(ctx context.Context, what func() string) (ended func()) {
	return watchStop(ctx, func(err error) { l.server.Report(OpStop, l.cfg.addrText, err) }, what)
}

func (l listenerSeam) End(ctx context.Context) { _ = l.close(ctx) }

func (l listenerSeam) Report(op, peer string, err error) {
	l.server.Report(op, l.cfg.addrText+", "+peer, err)
}

// A connSeam is a Conn with the methods of seam.Conn.
type connSeam struct{ *Conn }

func (c connSeam) WriteControl(data []byte) error { return c.writeNow(data, c.queue.EnqueueControl) }

func (c connSeam) EnqueueBuffer(b seam.Buffer, from, to int) (idle bool, err error) {
	if size := uint64(to - from); size > c.limit {
		return false, asOpError(OpWrite, c.where, errdefs.OverLimit(size, c.limit))
	}
	_, idle, err = c.queue.EnqueueBuffer(b.(*queue.Buffer), from, to)
	if err == nil || errdefs.IsBufferFull(err) {
		return idle, err
	}
	return idle, c.writeError(err)
}

func (c connSeam) WriteQueued() { c.out.Send() }

func (c connSeam) KeepMessage() seam.Buffer { return c.keepMessage() }

func (c *Conn) keepMessage() seam.Buffer {
	c.reading.Lock()
	defer c.reading.Unlock()
	if buf := c.in.Keep(); buf != nil {
		return buf
	}
	return nil // Close has taken it away.
}

func (c connSeam) Room() <-chan struct{} { return c.queue.NotifySpace() }

func (c connSeam) MaxMessageSize() uint64 { return c.limit }

func (c connSeam) Refuse() { c.refuse() }

func (c connSeam) KeepOpen(busy func() bool) { c.keepOpenFunc = busy }

func (c connSeam) ReturnReadMemory() (kept int) {
	c.reading.Lock()
	defer c.reading.Unlock()
	return c.in.ReleaseForPause()
}
