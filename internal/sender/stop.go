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

// Flush waits until all messages queued before are delivered, or ctx ends. The error counts the
// messages that were not delivered, unless an earlier Flush has reported them.
func (l *Loop) Flush(ctx context.Context) error {
	if err := l.queue.Flush(ctx); err != nil {
		return l.life.WaitingErr(l.queue, err)
	}
	l.mu.Lock()
	conn := l.current
	l.mu.Unlock()
	if conn != nil && !conn.IsSession() {
		target := conn.Written()
		read := func() bool { return conn.PeerHasRead(target) || !l.isCurrent(conn) }
		if !pollUntil(ctx, read) {
			return fmt.Errorf("waiting for the peer to read: %w", errdefs.EndOf(ctx))
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

// isCurrent reports whether conn is the current connection. If so, its end is not yet accounted
// for.
func (l *Loop) isCurrent(conn *transport.Out) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current == conn
}

// pollUntil calls condition until it returns true: after short delays first, then every few
// milliseconds. The kernel has no event for it. It returns false if ctx ends first.
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

// Stop refuses further messages, and waits until the queued ones are delivered. If ctx ends first,
// the stop is forced: the remaining messages are returned to the program. The error counts the
// messages that were not delivered and not yet reported by a Flush or another Stop. Stop may be
// called at any time, repeatedly, and concurrently.
func (l *Loop) Stop(ctx context.Context) error {
	l.queue.Close() // Before IsStopping becomes true: after that nothing may be accepted.
	l.life.Stop()
	l.queue.Signal()
	l.interruptHandshake()
	defer l.life.WatchStop(ctx, l.queue, func(err error) { l.events.Report(errdefs.OpStop, err) })()
	select {
	case <-l.life.Done():
	case <-ctx.Done():
		l.life.Force()
		l.life.AwaitForced()
	}
	return l.returnAllUndelivered(ctx)
}

// returnAllUndelivered returns the remaining messages to the program. The error counts them, and
// other undelivered messages that were not yet reported.
func (l *Loop) returnAllUndelivered(ctx context.Context) error {
	left, undelivered, lost, rest := l.reported.takeRemaining(l.queue, &l.counts.possiblyLost)
	rest.Visit(l.left)
	l.reportDropped()
	unread, known := l.takeUnread()
	cause := l.life.StopCause(ctx)
	var err error
	add := func(another error) {
		if err != nil {
			another = fmt.Errorf("%w; %w", err, another)
		}
		err = another
	}
	if left > 0 {
		add(&errdefs.Note{
			Kind: errdefs.NoteLeft, Messages: left,
			Err: fmt.Errorf("%s not delivered: %w", errdefs.CountIs(left, "was", "were"), cause),
		})
	}
	if unread > 0 {
		add(&errdefs.Unread{Messages: unread, Err: cause})
	}
	if undelivered+lost > 0 {
		add(lossError(errdefs.ErrStopped, undelivered, lost))
	}
	if !known && err == nil {
		add(fmt.Errorf("the connection has not ended yet, and messages may be unread: %w", cause))
	}
	return err
}

// takeUnread returns unreadAtStop, once. known is false while the goroutine runs.
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

// lossError returns the error for messages that were given up and messages that may be lost.
func lossError(reason error, undelivered, lost uint64) error {
	switch {
	case lost == 0:
		return fmt.Errorf("%w: %s not delivered", reason, errdefs.CountIs(undelivered, "was", "were"))
	case undelivered == 0:
		return fmt.Errorf("%w: up to %s may be lost", reason, errdefs.Count(lost))
	}
	return fmt.Errorf("%w: %s not delivered, up to %d more may be lost", reason,
		errdefs.CountIs(undelivered, "was", "were"), lost)
}
