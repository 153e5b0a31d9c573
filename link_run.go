// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the one goroutine of a Link: it connects, reads, and takes the queue from one connection to the next.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/seam"
	"github.com/udsipc/udsipc/internal/sender"
	"github.com/udsipc/udsipc/internal/transport"
)

// halfClose tells the peer that nothing more comes. The peer of a TCP connection may read what was sent before that is
// closed: reading goes on until the peer has ended its side, because what a peer sends to a closed socket costs it what
// it has not read yet. A forced stop ends whatever hangs.
func (l *Link) halfClose(ctx context.Context) error {
	l.mu.Lock()
	l.refuseConns = true
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return nil
	}
	transport.EndSending(conn.conn)
	if !transport.IsTCP(conn.conn) {
		return nil
	}
	select {
	case <-l.life.Done():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the peer has not ended its side, and may not have read everything: %w", errdefs.EndOf(ctx))
	}
}

// busyErr is the error of a goroutine that does not end, although only its handler or a callback can delay it.
func (l *Link) busyErr(ctx context.Context) error {
	if l.life.AwaitForced() {
		return nil
	}
	return fmt.Errorf("the handler or a callback has not returned: %w", errdefs.EndOf(ctx))
}

// finished reports whether Stop waits for nothing but the end of the connection.
func (l *Link) finished() bool {
	return l.life.Forced() || l.life.IsStopping() && l.queue.Empty()
}

// run connects and reads until the Link is stopped, or the handler or a callback ends the goroutine: from
// then on nothing is accepted, and Stop says what is left.
func (l *Link) run() {
	defer l.publish(nil)
	defer l.queue.Close()
	for !l.finished() {
		l.life.SetState(sender.StateConnecting, nil)
		if l.life.Pause(nil, l.finished) != nil {
			return
		}
		conn, err := l.dial()
		if err != nil {
			if l.life.Forced() {
				return
			}
			l.counts.dialErrors.Add(1)
			l.counts.dialed(err)
			if report := l.life.AttemptFailed(err); report != nil {
				l.cfg.events.report(OpDial, l.cfg.addrText, report)
			}
			continue
		}
		l.runConn(conn)
	}
}

// runConn uses a connection until it is lost.
func (l *Link) runConn(conn *Conn) {
	if !l.publish(conn) {
		transport.EndSending(conn.conn)
		conn.forceClose()
		return
	}
	l.counts.connections.Add(1)
	l.life.SetState(sender.StateConnected, nil)
	release := context.AfterFunc(l.life.Context(), conn.forceClose)
	defer release()
	defer conn.forceClose() // Also if the handler ends the goroutine.
	began := time.Now()
	conn.out.Send() // What has waited. From here on, whoever writes does.
	received, err := l.read(conn)
	if why := conn.sendErr.Load(); why != nil && errors.Is(why, ErrBackpressure) {
		l.noteReport(OpWrite, errdefs.NoteStalled, why) // Of WithStallTimeout.
	}
	conn.forceClose()
	l.queue.WaitIdle(conn.sendFailed) // Nobody writes any more.
	l.queue.Rewind()
	l.queue.DropControl()
	l.connectionEnded(received > 0, time.Since(began), err)
	conn.releaseRead()
	if !l.finished() {
		l.counts.lost.Add(1)
	}
	if !l.life.Forced() {
		l.publish(nil)
		l.life.SetState(sender.StateDisconnected, internalError(err))
	}
}

// read hands over what comes, and returns why nothing comes any more.
func (l *Link) read(conn *Conn) (received int, err error) {
	l.readConn = conn
	for {
		data, err := conn.ReadMessage()
		if err == io.EOF {
			err = fmt.Errorf("%w: %w", ErrConnectionClosed, err)
		}
		if err != nil {
			if l.skipTooLarge(err) {
				continue
			}
			return received, err
		}
		if len(data) == 0 && l.noEmptyMessages {
			return received, l.readRefusal(conn)
		}
		received++
		l.handle(data)
	}
}

// readRefusal reads what a server says after its goodbye, and reports it.
func (l *Link) readRefusal(conn *Conn) error {
	report, err := conn.ReadMessage()
	if err == nil {
		err = opError(OpRead, l.cfg.addrText, transport.RefusalError(report))
	}
	l.refused = true
	l.noteReport(OpRead, errdefs.NoteRejected, err)
	return err
}

// connectionEnded sets when to reconnect, and reports a peer that ends connections again and again
// without saying why.
func (l *Link) connectionEnded(useful bool, lived time.Duration, err error) {
	l.life.ConnectionEnded(useful, lived)
	count, report := l.life.BriefEnd(useful || l.refused, lived, withoutOp(err))
	if l.refused = false; report != nil && !l.life.IsStopping() {
		l.cfg.events.report(OpRead, l.cfg.addrText,
			&errdefs.Note{Kind: errdefs.NoteRejected, Messages: uint64(count), Err: report})
	}
}

// noteReport reports an error of this kind.
func (l *Link) noteReport(op string, kind errdefs.NoteKind, err error) {
	l.cfg.events.report(op, l.cfg.addrText, &errdefs.Note{Kind: kind, Messages: 1, Err: withoutOp(err)})
}

// withoutOp returns the cause of an OpError, and any other error as it is.
func withoutOp(err error) error {
	if e, ok := err.(*OpError); ok {
		return e.Err
	}
	return err
}

// skipTooLarge says whether reading goes on after err: behind a message that was too large.
func (l *Link) skipTooLarge(err error) bool {
	var large *TooLargeError
	if !errors.As(err, &large) {
		return false
	}
	l.cfg.events.report(OpRead, l.cfg.addrText, err)
	if l.onTooLarge != nil {
		l.onTooLarge((*seam.TooLarge)(large))
	}
	return true
}

// dial makes a connection that sends from the queue of the Link.
func (l *Link) dial() (*Conn, error) {
	in, peer, err := dialIn(l.life.Context(), &l.cfg)
	if err != nil {
		return nil, err
	}
	conn := newQueueConn(in, peer, &l.cfg.sharedConfig, l.queue)
	conn.sendFailed = make(chan struct{})
	return conn, nil
}

// publish makes conn, which may be nil, the connection that is written to. It returns false for one that comes too late
// for Stop.
func (l *Link) publish(conn *Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refuseConns && conn != nil {
		return false
	}
	l.conn = conn
	return true
}
