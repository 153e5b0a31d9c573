// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the one goroutine of a Link: it connects, reads, and takes the queue from one connection to the next.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// partGently tells the peer that nothing more comes. The peer of a TCP connection may read what was sent before that is
// closed: reading goes on until the peer has ended its side, because what a peer sends to a closed socket costs it what
// it has not read yet. Where l.abort ends, nothing of this hangs.
func (l *Link) partGently(ctx context.Context) error {
	l.mu.Lock()
	l.parting = true
	conn := l.conn
	l.mu.Unlock()
	if conn == nil {
		return nil
	}
	endSending(conn.conn)
	if kind, _ := inspect(beneath(conn.conn)); kind != tcpSocket {
		return nil
	}
	select {
	case <-l.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("the peer has not ended its side, and may not have read everything: %w", context.Cause(ctx))
	}
}

// stillBusy says that the goroutine does not end, although nothing but its handler or a callback can hold it up.
func (l *Link) stillBusy(ctx context.Context) error {
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-l.done:
		return nil
	case <-timer.C:
		return fmt.Errorf("the handler or a callback has not returned: %w", context.Cause(ctx))
	}
}

// finished says whether Stop waits for nothing but the end of the connection.
func (l *Link) finished() bool {
	l.mu.Lock()
	stopped := l.phase == phaseStopped
	l.mu.Unlock()
	return stopped && l.queue.empty()
}

// run connects and reads until the Link is stopped.
func (l *Link) run() {
	defer close(l.done)
	defer func() { l.setState(StateStopped, nil, nil) }()
	for l.abort.Err() == nil && !l.finished() {
		l.setState(StateConnecting, nil, nil)
		if !l.pause() {
			return
		}
		conn, err := l.dial()
		if err != nil {
			if l.abort.Err() != nil {
				return
			}
			l.failures++
			l.cfg.onError.report(OpDial, l.cfg.where, err)
			continue
		}
		l.converse(conn)
	}
}

// pause waits for the backoff.
func (l *Link) pause() bool {
	timer := time.NewTimer(backoff(l.failures, l.cfg.maxBackoff))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.abort.Done():
		return false
	}
}

// converse uses a connection until it is lost.
func (l *Link) converse(conn *Conn) {
	if !l.setState(StateConnected, nil, conn) {
		endSending(conn.conn)
		conn.abandon()
		return
	}
	release := context.AfterFunc(l.abort, conn.abandon)
	defer release()
	defer conn.abandon() // Also if the handler ends the goroutine.
	began := time.Now()
	conn.drain() // What has waited. From here on, whoever writes does.
	received, err := l.read(conn)
	conn.abandon()
	l.queue.reserve(conn.unsent) // Nobody writes any more.
	l.queue.rewind()
	l.queue.dropControl()
	l.failures = failuresAfter(l.failures, received > 0, time.Since(began))
	conn.release()
	if l.abort.Err() == nil {
		l.setState(StateLost, err, nil)
	}
}

// read hands over what comes, and returns why nothing comes any more.
func (l *Link) read(conn *Conn) (received int, err error) {
	for {
		data, err := conn.ReadMessage()
		if err == io.EOF {
			err = fmt.Errorf("%w: %w", ErrConnectionClosed, err)
		}
		if err != nil {
			if l.passOver(err) {
				continue
			}
			return received, err
		}
		received++
		l.handle(data)
	}
}

// passOver says whether reading goes on after err: behind a message that was too large.
func (l *Link) passOver(err error) bool {
	var large *TooLargeError
	if !errors.As(err, &large) {
		return false
	}
	l.cfg.onError.report(OpRead, l.cfg.where, err)
	if l.cfg.tooLarge != nil {
		l.cfg.tooLarge(large)
	}
	return true
}

// dial makes a connection that sends from the queue of the Link.
func (l *Link) dial() (*Conn, error) {
	conn, err := dialConn(l.abort, &l.cfg)
	if err != nil {
		return nil, err
	}
	conn.queue = l.queue
	conn.unsent = make(chan struct{})
	return conn, nil
}

// setState publishes a state and tells the callback. It says no to a connection that comes too late for Stop.
func (l *Link) setState(state State, cause error, conn *Conn) bool {
	l.mu.Lock()
	if late := l.parting && conn != nil; late || l.state == state {
		l.mu.Unlock()
		return !late
	}
	l.state, l.conn = state, conn
	close(l.changed)
	l.changed = make(chan struct{})
	l.mu.Unlock()
	if l.cfg.watch != nil {
		l.cfg.watch(state, cause)
	}
	if l.cfg.onState != nil {
		l.cfg.onState(state, cause)
	}
	return true
}
