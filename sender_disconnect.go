// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the end of a loop's connection: what became of its messages, whether one of them is given up, and when to
// connect again.

import (
	"errors"
	"fmt"
)

// closeConn ends a connection without an error. Without a session it waits for what the peer reports of the messages.
func (l *loop) closeConn(o *outbound) {
	if !o.isSession() {
		end := o.closeGracefully(l.life.context().Done())
		l.noteUnread(end)
		l.reportEnd(o, end)
	}
	o.close()
	l.queue.rewind()
	l.clearCurrent()
}

// noteUnread keeps for stop how many messages the peer had not read when it was forced.
func (l *loop) noteUnread(end outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unreadAtStop = end.unread
}

// onDisconnect accounts for a connection that broke, or that the peer ended.
func (l *loop) onDisconnect(o *outbound, writeErr error) {
	end := o.closeAndAccount(writeErr, l.life.context().Done())
	l.counts.lostConnections.Add(1)
	l.noteUnread(end)
	l.reportEnd(o, end)
	if !errors.Is(end.cause, errRestartSequence) && (o.wroteMessages() || !l.queue.empty()) { // An idle one had no chance to prove anything.
		l.life.failures = o.failuresAfter(l.life.failures)
	}
	partial, size := l.queue.rewind()
	if !o.isSession() {
		l.giveUpHead(partial, l.headRetry.countHeadFailure(end, partial, size, o.wroteMessages()))
	}
	l.limit.Store(l.cfg.messageLimit) // The next reader may accept more than this one.
	l.clearCurrent()
	l.life.setState(stateDisconnected, fmt.Errorf("%w: %w", errConnectionClosed, end.cause))
}

// reportEnd reports what is wrong with the end of a connection.
func (l *loop) reportEnd(o *outbound, end outcome) {
	if end.lost > 0 {
		l.counts.possiblyLost.Add(end.lost)
		l.events.report(opWrite, &possibleLossError{Messages: end.lost, Err: end.cause})
	} else if end.reason.rejectsPeer() {
		l.events.report(opDial, end.cause)
	}
	if o.isSession() && (errors.Is(end.cause, errInvalidSession) || errors.Is(end.cause, errHeartbeatTimeout)) {
		l.events.report(opOpenSession, end.cause)
	}
}

// clearCurrent publishes that there is no connection, once its end is accounted for.
func (l *loop) clearCurrent() {
	l.mu.Lock()
	l.current = nil
	l.mu.Unlock()
}

// giveUpHead gives up the first message, if verdict is not nil and the message still has this number: its reader rejects
// it, and it must not delay those behind it for ever. It may have been dropped meanwhile.
func (l *loop) giveUpHead(number uint64, verdict error) {
	if verdict == nil {
		return
	}
	if data, ok := l.queue.removeHead(number); ok {
		l.returnUndelivered(data, verdict)
	}
}
