// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is how a Writer gets a connection: when it wants one, how long it waits for the next try, and
// what it needs for acknowledgements.

import (
	"errors"
	"net"
	"time"
)

// connect returns the next connection, or errStopped. The first try is made at once; after that an
// exponential backoff with full jitter delays each. A Writer that has lost its connection stays away
// until it has something to send.
func (w *Writer) connect() (*outbound, error) {
	w.mu.Lock()
	first := w.state == StateNew
	w.mu.Unlock()
	for {
		if err := w.awaitReason(first); err != nil {
			return nil, err
		}
		w.setState(StateConnecting, nil)
		if err := w.pause(backoff(w.failures, w.cfg.maxBackoff)); err != nil {
			return nil, err
		}
		o, err := w.open()
		if err == nil {
			w.wanted.Store(false)
			return o, nil
		}
		if w.abort.Err() != nil || errors.Is(err, errStopped) {
			return nil, errStopped
		}
		w.failures++
		w.counts.dialErrors.Add(1)
		w.report(opDial, err)
		w.reportDropped()
	}
}

// open connects, makes sure who is there and, for acknowledgements, opens a session.
func (w *Writer) open() (*outbound, error) {
	conn, err := w.cfg.dial(w.abort)
	if err != nil {
		return nil, err
	}
	if conn, err = w.verify(conn); err != nil {
		closeNow(conn)
		return nil, err
	}
	o := newOutbound(conn, w.cfg.writeTimeout)
	if !w.cfg.acknowledgements {
		return o, nil
	}
	if err := w.greet(o); err != nil {
		closeNow(conn)
		return nil, withOp(opSession, w.cfg.where, err)
	}
	return o, nil
}

// verify makes sure who is there, and counts. It always returns the connection.
func (w *Writer) verify(conn net.Conn) (net.Conn, error) {
	w.dialed++
	peer := Peer{ID: w.dialed, Addr: conn.RemoteAddr()}
	conn, err := w.cfg.verify(w.abort, conn, &peer)
	switch {
	case errors.Is(err, errHandshake):
		w.counts.handshakeErrors.Add(1)
	case errors.Is(err, errUnauthorized):
		w.counts.unauthorized.Add(1)
	}
	return conn, err
}

// finished says whether there is nothing left to do.
func (w *Writer) finished() bool {
	return w.abort.Err() != nil || w.stopping.Load() && w.queue.empty()
}

// awaitReason waits until there is something to connect for.
func (w *Writer) awaitReason(first bool) error {
	for {
		stopping := w.stopping.Load() // Before the look at the queue: what was accepted until Stop is sent.
		empty := w.queue.empty()      // From here on a message wakes us.
		w.reportDropped()
		switch {
		case w.abort.Err() != nil || empty && stopping:
			return errStopped
		case first || !empty || w.wanted.Load():
			return nil
		}
		select {
		case <-w.queue.awake():
		case <-w.abort.Done():
		}
	}
}

// pause waits, but not when there is nothing left to do.
func (w *Writer) pause(delay time.Duration) error {
	timer := time.NewTimer(delay)
	defer timer.Stop()
	for {
		if w.finished() {
			return errStopped
		}
		w.reportDropped()
		if delay == 0 {
			return nil
		}
		select {
		case <-timer.C:
			return nil
		case <-w.queue.awake():
		case <-w.abort.Done():
		}
	}
}
