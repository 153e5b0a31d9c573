// SPDX-License-Identifier: Apache-2.0

package sender

// This file makes the connections of a loop: it decides when one is needed, and waits between
// attempts.

import (
	"errors"
	"net"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
)

// connect returns the next connection, or ErrStopped. The first attempt is immediate; an
// exponential backoff with full jitter delays each later one. After a disconnect, a loop reconnects
// only when it has something to send.
func (l *Loop) connect() (*transport.Out, error) {
	first := l.life.State() == stateNew
	for {
		if err := l.waitUntilNeeded(first); err != nil {
			return nil, err
		}
		l.life.SetState(StateConnecting, nil)
		if err := l.life.Pause(l.queue.Ready(), l.pauseOver); err != nil {
			return nil, err
		}
		o, op, err := l.open()
		if err == nil {
			l.connectRequested.Store(false)
			return o, nil
		}
		// Without Stop, an ErrStopped comes from the dialer.
		if l.life.Forced() || errors.Is(err, errdefs.ErrStopped) && l.finished() {
			return nil, errdefs.ErrStopped
		}
		l.counts.dialErrors.Add(1)
		if report := l.life.AttemptFailed(err); report != nil {
			l.events.Report(op, report)
		}
		l.reportDropped()
	}
}

// open connects and, for acknowledgements, opens a session. op is the operation that failed.
func (l *Loop) open() (o *transport.Out, op string, err error) {
	conn, err := l.cfg.Dial(l.life.Context())
	if err != nil {
		l.noWelcomes = 0
		return nil, errdefs.OpDial, err
	}
	established := false
	defer func() {
		if !established { // Also if a callback calls Goexit.
			transport.CloseNow(conn)
		}
	}()
	if o, err = l.establish(conn); err != nil {
		return nil, errdefs.OpOpenSession, err
	}
	established = true
	return o, "", nil
}

// establish returns a transport.Out that owns conn.
func (l *Loop) establish(conn net.Conn) (*transport.Out, error) {
	o := transport.NewOut(conn, l.cfg.WriteTimeout)
	if !l.cfg.Acks {
		return o, nil
	}
	return o, l.openSession(o)
}

// finished reports whether the loop is done: the stop was forced, or the loop is stopping and the
// queue is empty.
func (l *Loop) finished() bool {
	return l.life.Forced() || l.life.IsStopping() && l.queue.Empty()
}

// pauseOver reports whether to end a pause early. Pause calls it whenever the queue wakes the
// goroutine.
func (l *Loop) pauseOver() bool {
	if l.finished() {
		return true
	}
	l.reportDropped()
	l.reportBriefEnds(false)
	return false
}

// waitUntilNeeded waits until there is a reason to connect.
func (l *Loop) waitUntilNeeded(first bool) error {
	for {
		stopping := l.life.IsStopping() // Before the queue is checked: messages accepted before Stop are sent.
		empty := l.queue.Empty()        // From here on a message wakes this goroutine.
		l.reportDropped()
		l.reportBriefEnds(false)
		switch {
		case l.life.Forced() || empty && stopping:
			return errdefs.ErrStopped
		case first || !empty || l.connectRequested.Load():
			return nil
		}
		select {
		case <-l.queue.Ready():
		case <-l.life.Context().Done():
		}
	}
}
