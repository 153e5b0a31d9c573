// SPDX-License-Identifier: Apache-2.0

package sender

// This file has the waits of other goroutines: until messages are delivered (Flush), and until the loop ends (Stop).

import (
	"context"
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
)

// Flush waits until everything that was queued before has been delivered, or ctx ends. The error says which messages
// were not, unless an earlier flush has.
func (l *Loop) Flush(ctx context.Context) error {
	if err := l.queue.Flush(ctx); err != nil {
		return err
	}
	l.mu.Lock()
	conn := l.current
	l.mu.Unlock()
	if conn != nil && !conn.IsSession() {
		target := conn.Written()
		read := func() bool { return conn.PeerHasRead(target) || !l.isCurrent(conn) }
		if !pollUntil(ctx, read) {
			return fmt.Errorf("waiting for the peer to read: %w", context.Cause(ctx))
		}
	}
	undelivered, lost := l.reported.losses(l.queue, &l.counts.possiblyLost)
	switch {
	case undelivered+lost == 0:
		return nil
	case l.life.IsStopping():
		return lossError(errdefs.ErrStopped, undelivered, lost)
	}
	return lossError(errdefs.ErrConnectionClosed, undelivered, lost)
}

// isCurrent reports whether conn is the present connection, so that its end is not accounted for yet.
func (l *Loop) isCurrent(conn *transport.Out) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current == conn
}

// pollUntil calls condition until it returns true, soon at first, then every few milliseconds: the kernel has no event
// for it. It returns false if ctx ends first.
func pollUntil(ctx context.Context, condition func() bool) bool {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for delay := 20 * time.Microsecond; !condition(); delay = min(2*delay, 5*time.Millisecond) {
		timer.Reset(delay)
		select {
		case <-timer.C:
		case <-ctx.Done():
			return condition()
		}
	}
	return true
}

// Stop refuses further messages, and waits until those that are queued are delivered. When ctx ends first it is
// forced: it returns the messages that are left to the program. The error says which messages were not delivered,
// unless a Flush has, or another call of Stop. It may be called at any time, again, and by several goroutines.
func (l *Loop) Stop(ctx context.Context) error {
	l.queue.Close() // First: once IsStopping is true, nothing may be accepted.
	l.life.Stop()
	l.queue.Signal()
	l.interruptHandshake()
	select {
	case <-l.life.Done():
	case <-ctx.Done():
		l.life.Force()
		l.life.AwaitForced()
	}
	return l.returnAllUndelivered(ctx)
}

// returnAllUndelivered returns what is left of the queue to the program. The error says how much
// that was, and what else was not delivered and not reported.
func (l *Loop) returnAllUndelivered(ctx context.Context) error {
	left, undelivered, lost, rest := l.reported.takeRemaining(l.queue, &l.counts.possiblyLost)
	rest.Visit(l.events.Undelivered)
	l.reportDropped()
	unread, known := l.takeUnread()
	cause := context.Cause(ctx)
	if cause == nil {
		cause = fmt.Errorf("%w before Start, or by another call whose context ended", errdefs.ErrStopped)
	}
	var err error
	add := func(another error) {
		if err != nil {
			another = fmt.Errorf("%w; %w", err, another)
		}
		err = another
	}
	if left > 0 {
		add(fmt.Errorf("%d messages were not delivered: %w", left, cause))
	}
	if unread > 0 {
		add(fmt.Errorf("up to %d messages are with the kernel, but not read by the peer yet: %w", unread, cause))
	}
	if undelivered+lost > 0 {
		add(lossError(errdefs.ErrStopped, undelivered, lost))
	}
	if !known && err == nil {
		add(fmt.Errorf("the connection has not ended yet, and messages may be unread: %w", cause))
	}
	return err
}

// takeUnread returns unreadAtStop, once. known is false as long as the goroutine has not ended.
func (l *Loop) takeUnread() (unread uint64, known bool) {
	select {
	case <-l.life.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		unread, l.unreadAtStop = l.unreadAtStop, 0
		return unread, true
	default:
		return 0, false
	}
}

// lossError is the error for messages that were given up, and for others that may be lost.
func lossError(reason error, undelivered, lost uint64) error {
	return fmt.Errorf("%w: %d messages were not delivered, up to %d more may be lost", reason, undelivered, lost)
}
