// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the goroutine of a loop: it connects (connect.go), sends the queue over the connection, and accounts
// for each message when the connection ends.

import (
	"context"
	"errors"
	"fmt"
)

// One write takes as many chunks as a batch may have bytes. No constant of type uint64 is negative.
const _ = uint64(maxVector*chunkSize - batchSize)

// run connects and sends until the loop is stopped.
func (l *loop) run() {
	for {
		o, err := l.connect()
		if err != nil {
			l.reportDropped()
			return
		}
		l.runConn(o)
	}
}

// runConn sends over a connection until it ends, and accounts for that end.
func (l *loop) runConn(o *outbound) {
	go o.watch(l.queue.signal) // Ends with the connection; runConn waits for it.
	release := context.AfterFunc(l.life.context(), o.force)
	defer release()
	o.onWait(l.stillWriting)

	l.mu.Lock()
	l.current = o
	l.mu.Unlock()
	l.counts.connections.Add(1)
	l.life.setState(stateConnected, nil)

	if err := l.send(o); errors.Is(err, errStopped) {
		l.closeConn(o)
	} else {
		l.onDisconnect(o, err)
	}
	o.watched()
}

// send writes what is queued to o. It returns errStopped when everything is delivered and the loop is stopping, nil
// when the peer closed the connection, and otherwise why a write failed.
func (l *loop) send(o *outbound) error {
	for !o.isLeaving() {
		bufs := l.queue.take(l.bufs[:0], batchSize)
		if len(bufs) == 0 {
			l.reportDropped()
			if ended, err := l.waitForWork(o); ended {
				return err
			}
			continue
		}
		n, err := o.write(bufs)
		messages, invalid := l.queue.written(n)
		if invalid != nil {
			return invalid
		}
		o.completed(messages)
		l.counts.writes.Add(1)
		l.counts.writtenBytes.Add(uint64(n))
		l.reportDropped()
		if err == nil {
			continue
		}
		if l.life.forced() {
			return errStopped
		}
		waited, err := o.afterTimeout(n, err)
		if err != nil {
			return err
		}
		if !waited {
			continue
		}
		l.counts.backpressure.Add(1)
		l.events.report(opWrite, fmt.Errorf("%w: %d bytes were taken within %v, waiting with the rest", errBackpressure, n, l.cfg.writeTimeout))
	}
	if l.life.forced() {
		return errStopped
	}
	return nil
}

// stillWriting reports a write of TLS that waits. It is called while the loop's goroutine is in that write.
func (l *loop) stillWriting() {
	l.counts.backpressure.Add(1)
	l.events.report(opWrite, fmt.Errorf("%w: a write has waited for %v, waiting on", errBackpressure, l.cfg.writeTimeout))
}

// waitForWork waits until there is something to write. It reports whether the connection ends, and what send returns
// then.
func (l *loop) waitForWork(o *outbound) (ended bool, err error) {
	if o.isSession() {
		return l.waitForWorkInSession(o)
	}
	if l.life.isStopping() {
		return true, l.waitUntilRead(o)
	}
	<-l.queue.ready() // From push, watch, close, and stop.
	return false, nil
}

// waitUntilRead waits, at the end, until the peer has read everything, where the kernel knows. It returns nil if the
// peer closed the connection.
func (l *loop) waitUntilRead(o *outbound) error {
	if !o.tellsRead() {
		return errStopped // The end of the connection tells.
	}
	read := false
	pollUntil(l.life.context(), func() bool {
		read = o.allRead()
		return read || o.isLeaving()
	})
	if !read && !l.life.forced() {
		return nil
	}
	return errStopped
}

// closeConn ends a connection without an error. Without a session it waits for what the peer reports of the messages.
func (l *loop) closeConn(o *outbound) {
	if !o.isSession() {
		end := o.part(l.life.context().Done())
		l.noteUnread(end)
		l.reportEnd(o, end)
	}
	o.close()
	l.queue.rewind()
	l.clearCurrent()
}

// noteUnread keeps for stop how many messages the peer had not read when it was forced.
func (l *loop) noteUnread(end ending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unreadAtStop = end.unread
}

// onDisconnect accounts for a connection that broke, or that the peer ended.
func (l *loop) onDisconnect(o *outbound, writeErr error) {
	end := o.finish(writeErr, l.life.context().Done())
	l.counts.lostConnections.Add(1)
	l.noteUnread(end)
	l.reportEnd(o, end)
	if !errors.Is(end.cause, errRenumber) && (o.wroteMessages() || !l.queue.empty()) { // An idle one had no chance to prove anything.
		l.life.failures = o.failures(l.life.failures)
	}
	partial, size := l.queue.rewind()
	if !o.isSession() {
		l.giveUpHead(partial, l.headRetry.blame(end, partial, size, o.wroteMessages()))
	}
	l.limit.Store(l.cfg.messageLimit) // The next reader may accept more than this one.
	l.clearCurrent()
	l.life.setState(stateDisconnected, fmt.Errorf("%w: %w", errConnectionClosed, end.cause))
}

// reportEnd reports what is wrong with the end of a connection.
func (l *loop) reportEnd(o *outbound, end ending) {
	if end.lost > 0 {
		l.counts.possiblyLost.Add(end.lost)
		l.events.report(opWrite, &possibleLossError{Messages: end.lost, Err: end.cause})
	} else if end.reason.rejects() {
		l.events.report(opDial, end.cause)
	}
	if o.isSession() && (errors.Is(end.cause, errInvalidSession) || errors.Is(end.cause, errPeerSilent)) {
		l.events.report(opSession, end.cause)
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
	if data, ok := l.queue.setAside(number); ok {
		l.returnUndelivered(data, verdict)
	}
}

// returnUndelivered reports why a message cannot be delivered, and returns it to the program.
func (l *loop) returnUndelivered(data []byte, why error) {
	l.events.report(opWrite, why)
	if l.events.undelivered != nil {
		l.events.undelivered(data)
	}
}

// reportDropped reports what the queue has dropped since the last time.
func (l *loop) reportDropped() {
	if !l.cfg.dropOldest && l.cfg.maxAge == 0 {
		return
	}
	dropped, expired := l.reported.drops(l.queue)
	if dropped > 0 {
		l.events.report(opQueue, fmt.Errorf("%w: the oldest %d messages were dropped", errBufferFull, dropped))
	}
	if expired > 0 {
		l.events.report(opQueue, fmt.Errorf("%d messages were older than %v (WithMaxAge) and were dropped", expired, l.cfg.maxAge))
	}
}
