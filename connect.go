// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how a loop gets a connection: when it needs one, and how long it waits for the next attempt.

import (
	"errors"
	"net"
)

// connect returns the next connection, or errStopped. The first attempt is made at once; after that an exponential
// backoff with full jitter delays each. A loop that has lost its connection does not reconnect until it has something
// to send.
func (l *loop) connect() (*outbound, error) {
	first := l.life.state() == stateNew
	for {
		if err := l.waitUntilNeeded(first); err != nil {
			return nil, err
		}
		l.life.setState(stateConnecting, nil)
		if err := l.life.pause(l.queue.ready(), l.pauseOver); err != nil {
			return nil, err
		}
		o, op, err := l.open()
		if err == nil {
			l.connectRequested.Store(false)
			return o, nil
		}
		if l.life.forced() || errors.Is(err, errStopped) {
			return nil, errStopped
		}
		l.life.attemptFailed()
		l.counts.dialErrors.Add(1)
		l.events.report(op, err)
		l.reportDropped()
	}
}

// open connects and, for acknowledgements, opens a session. op is what failed.
func (l *loop) open() (o *outbound, op string, err error) {
	conn, err := l.cfg.dial(l.life.context())
	if err != nil {
		return nil, opDial, err
	}
	if o, err = l.establish(conn); err != nil {
		closeNow(conn)
		return nil, opOpenSession, err
	}
	return o, "", nil
}

// establish takes over conn.
func (l *loop) establish(conn net.Conn) (*outbound, error) {
	o := newOutbound(conn, l.cfg.writeTimeout)
	if !l.cfg.acks {
		return o, nil
	}
	return o, l.openSession(o)
}

// finished reports whether there is nothing left to do.
func (l *loop) finished() bool {
	return l.life.forced() || l.life.isStopping() && l.queue.empty()
}

// pauseOver reports whether a pause has no purpose any more. It is asked whenever the queue wakes the goroutine.
func (l *loop) pauseOver() bool {
	if l.finished() {
		return true
	}
	l.reportDropped()
	return false
}

// waitUntilNeeded waits until there is something to connect for.
func (l *loop) waitUntilNeeded(first bool) error {
	for {
		stopping := l.life.isStopping() // Before the look at the queue: what was accepted until stop is sent.
		empty := l.queue.empty()        // From here on a message wakes this goroutine.
		l.reportDropped()
		switch {
		case l.life.forced() || empty && stopping:
			return errStopped
		case first || !empty || l.connectRequested.Load():
			return nil
		}
		select {
		case <-l.queue.ready():
		case <-l.life.context().Done():
		}
	}
}
