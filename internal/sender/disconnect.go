// SPDX-License-Identifier: Apache-2.0

package sender

// This file is the end of a loop's connection: what became of its messages, whether one of them is
// given up, and when to connect again.

import (
	"errors"
	"fmt"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
)

// closeConn ends a connection without an error. Without a session it waits for what the peer reports of the messages.
func (l *Loop) closeConn(o *transport.Out) {
	if !o.IsSession() {
		end := o.CloseGracefully(l.life.Context().Done())
		l.noteUnread(end)
		l.reportEnd(o, end)
	}
	o.Close()
	l.queue.Rewind()
	l.clearCurrent()
}

// noteUnread keeps for Stop how many messages the peer had not read when it was forced.
func (l *Loop) noteUnread(end transport.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unreadAtStop = end.Unread
}

// onDisconnect accounts for a connection that broke, or that the peer ended.
func (l *Loop) onDisconnect(o *transport.Out, writeErr error) {
	end := o.CloseAndAccount(writeErr, l.life.Context().Done())
	l.counts.lostConnections.Add(1)
	l.noteUnread(end)
	l.reportEnd(o, end)
	// An idle one had no chance to prove anything.
	if !errors.Is(end.Cause, transport.ErrRestartSequence) && (o.WroteMessages() || !l.queue.Empty()) {
		l.life.failures = o.FailuresAfter(l.life.failures)
	}
	partial, size := l.queue.Rewind()
	if !o.IsSession() {
		l.giveUpHead(partial, l.headRetry.countHeadFailure(end, partial, size, o.WroteMessages()))
	}
	l.limit.Store(l.cfg.MessageLimit) // The next reader may accept more than this one.
	l.clearCurrent()
	l.life.SetState(StateDisconnected, fmt.Errorf("%w: %w", errdefs.ErrConnectionClosed, end.Cause))
}

// reportEnd reports what is wrong with the end of a connection.
func (l *Loop) reportEnd(o *transport.Out, end transport.Outcome) {
	if end.Lost > 0 {
		l.counts.possiblyLost.Add(end.Lost)
		l.events.Report(errdefs.OpWrite, &errdefs.PossibleLoss{Messages: end.Lost, Err: end.Cause})
	} else if end.Reason.RejectsPeer() {
		l.events.Report(errdefs.OpDial, end.Cause)
	}
	if o.IsSession() && (errors.Is(end.Cause, errdefs.ErrInvalidSession) ||
		errors.Is(end.Cause, errdefs.ErrHeartbeatTimeout)) {
		l.events.Report(errdefs.OpOpenSession, end.Cause)
	}
}

// clearCurrent publishes that there is no connection, once its end is accounted for.
func (l *Loop) clearCurrent() {
	l.mu.Lock()
	l.current = nil
	l.mu.Unlock()
}

// giveUpHead gives up the first message, if verdict is not nil and the message still has this
// number: its reader rejects it, and it must not delay those behind it for ever. It may have been
// dropped meanwhile.
func (l *Loop) giveUpHead(number uint64, verdict error) {
	if verdict == nil {
		return
	}
	if data, ok := l.queue.RemoveHead(number); ok {
		l.returnUndelivered(data, verdict)
	}
}
