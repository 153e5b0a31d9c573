// SPDX-License-Identifier: Apache-2.0

package sender

// This file ends the connections of a loop. It accounts for their messages, gives up a message that
// no reader accepts, and sets when to reconnect.

import (
	"errors"
	"fmt"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
)

// closeConn closes a connection that did not fail. Without a session it waits for the peer's report
// about the messages.
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

// noteUnread stores for Stop how many messages the peer had not read at a forced stop.
func (l *Loop) noteUnread(end transport.Outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unreadAtStop = end.Unread
}

// onDisconnect accounts for a connection that failed, or that the peer closed.
func (l *Loop) onDisconnect(o *transport.Out, writeErr error) {
	end := o.CloseAndAccount(writeErr, l.life.Context().Done())
	l.counts.lostConnections.Add(1)
	l.noteUnread(end)
	l.reportEnd(o, end)
	// An idle connection says nothing about the reader.
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

// reportEnd reports the errors with which a connection ended.
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

// clearCurrent publishes that there is no connection. It is called after the end is accounted for.
func (l *Loop) clearCurrent() {
	l.mu.Lock()
	l.current = nil
	l.mu.Unlock()
}

// giveUpHead gives up the first message if verdict is not nil and the message still has this
// number. Its reader rejects it, and it must not block the messages behind it. The message may have
// been dropped meanwhile.
func (l *Loop) giveUpHead(number uint64, verdict error) {
	if verdict == nil {
		return
	}
	if data, ok := l.queue.RemoveHead(number); ok {
		l.returnUndelivered(data, verdict)
	}
}
