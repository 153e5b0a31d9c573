// SPDX-License-Identifier: Apache-2.0

package sender

// This file ends the connections of a loop. It accounts for their messages, gives up a message that
// no reader accepts, and sets when to reconnect.

import (
	"errors"
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
)

// closeConn closes a connection that did not fail. Without a session it waits for the peer's report
// about the messages.
func (l *Loop) closeConn(o *transport.Out) {
	if !o.IsSession() {
		end := o.CloseGracefully(l.life.Context().Done())
		l.noteUnread(end)
		if o.WroteMessages() || !end.Silent {
			l.noteEnd(end, true)
		}
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
	end := l.closeAndAccount(o, writeErr)
	l.counts.lostConnections.Add(1)
	l.noteUnread(end)
	if o.IsSession() && (errors.Is(end.Cause, errdefs.ErrInvalidSession) ||
		errors.Is(end.Cause, errdefs.ErrHeartbeatTimeout)) {
		l.events.Report(errdefs.OpOpenSession, end.Cause)
	}
	idle := !o.WroteMessages() && l.queue.Empty() // Such a connection says nothing about the reader.
	if !idle || !end.Silent {
		l.noteEnd(end, false)
	}
	if !idle && !errors.Is(end.Cause, transport.ErrRestartSequence) {
		failures := o.FailuresAfter(l.life.failures)
		if l.brief.isSuspicious() { // That it reads proves nothing.
			failures = max(failures, min(l.life.failures+1, maxBriefFailures))
		}
		l.life.failures = failures
	}
	partial, size := l.queue.Rewind()
	if !o.IsSession() {
		l.giveUpHead(partial, l.headRetry.countHeadFailure(end, partial, size, o.WroteMessages()))
	}
	l.limit.Store(l.cfg.MessageLimit) // The next reader may accept more than this one.
	l.clearCurrent()
	l.life.SetState(StateDisconnected, fmt.Errorf("%w: %w", errdefs.ErrConnectionClosed, end.Cause))
}

// minEndWait is the shortest wait for the end of a connection that is reported. The kernel may need less.
const minEndWait = time.Second

// closeAndAccount is Out.CloseAndAccount, which waits for the peer. It reports once that it waits for long.
func (l *Loop) closeAndAccount(o *transport.Out, writeErr error) transport.Outcome {
	told := make(chan struct{})
	wait := max(l.cfg.WriteTimeout, minEndWait)
	timer := time.AfterFunc(wait, func() {
		defer close(told) // Also if the callback calls Goexit.
		l.counts.backpressure.Add(1)
		l.events.Report(errdefs.OpWrite, fmt.Errorf("%w: it ends the connection, and has not closed it for %v, waiting",
			errdefs.ErrBackpressure, wait))
	})
	end := o.CloseAndAccount(writeErr, l.life.Context().Done())
	if !timer.Stop() {
		<-told // Callbacks do not overlap.
	}
	return end
}

// noteEnd counts the messages that may be lost with a connection, and reports its end: at once, or
// in a summary with others like it. own is true if this side has ended it.
func (l *Loop) noteEnd(end transport.Outcome, own bool) {
	if own && end.Lost == 0 && !l.brief.silent {
		end.Silent = false // A reader need not say goodbye to a writer that has ended the connection.
	}
	var earlier briefEnds
	if !l.brief.continues(end) {
		earlier, l.brief = l.brief, earlier
	}
	l.counts.possiblyLost.Add(l.brief.add(end)) // Before a callback, which may call Goexit.
	l.reportBrief(&earlier, true)
	if l.reportBriefEnds(own); end.Lived >= briefLife {
		l.brief = briefEnds{}
	}
}

// reportBriefEnds reports the ends of connections if a report is due, or if there is anything to
// report at all (force). Otherwise it has the loop wake up when a report is due.
func (l *Loop) reportBriefEnds(force bool) { l.reportBrief(&l.brief, force) }

func (l *Loop) reportBrief(b *briefEnds, force bool) {
	if !b.isPending() {
		return
	}
	now := time.Now()
	switch wait := b.lastReport.Add(b.interval).Sub(now); {
	case force || wait <= 0:
		l.events.Report(b.take(now))
	case b.timer == nil:
		b.timer = time.AfterFunc(wait, l.queue.Signal)
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
