// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what the goroutine of a loop does otherwise in a session: it makes the session handshake, and waits for
// acknowledgements where it would wait for the kernel.

import (
	"context"
	"fmt"
	"time"
)

// openSession opens a session on a new connection, and removes the messages from the queue that the reader has handled.
func (l *loop) openSession(o *outbound) error {
	seq := l.queue.sequence()
	l.epoch++
	h := hello{writer: l.cfg.writer, epoch: l.epoch, firstSeq: seq.acked + 1, lastSentSeq: seq.highestSent}
	release := context.AfterFunc(l.life.context(), o.closeNow)
	defer release()
	l.setHandshaking(o)
	defer l.setHandshaking(nil)
	answer, err := o.sessionHandshake(h, handshakeHooks{
		heartbeatTimeout: l.cfg.heartbeatTimeout, acknowledge: l.queue.acknowledge,
		slowAfter: l.cfg.writeTimeout, onSlow: l.reportSlowWelcome, cancelled: l.finished,
	})
	if err != nil {
		return err
	}
	released, err := l.queue.applyWelcome(answer.handled, answer.limit)
	if err != nil {
		return err
	}
	l.limit.Store(min(l.cfg.messageLimit, answer.limit))
	if released > 0 {
		o.markProgress()
	}
	return nil
}

// setHandshaking publishes the connection of a session handshake, so that stop can interrupt it.
func (l *loop) setHandshaking(o *outbound) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handshaking = o
}

// interruptHandshake lets the session handshake look whether there is a reason to go on.
func (l *loop) interruptHandshake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handshaking != nil {
		l.handshaking.interruptHandshake()
	}
}

// reportSlowWelcome reports that the welcome takes long: the reader may be busy with the messages of an earlier connection.
func (l *loop) reportSlowWelcome() {
	l.counts.backpressure.Add(1)
	l.reportDropped()
	l.events.report(opOpenSession, fmt.Errorf("%w: no welcome within %v, waiting", errBackpressure, l.cfg.writeTimeout))
}

// waitForWorkInSession is waitForWork: the loop does not end before everything is acknowledged, and it gives up a message
// that the reader would reject.
func (l *loop) waitForWorkInSession(o *outbound) (ended bool, err error) {
	if data, burnt := l.queue.removeOversized(); data != nil {
		l.returnUndelivered(data, fmt.Errorf("%w for the reader: a message of %d bytes, its limit is %d; it is set aside",
			errMessageTooLarge, len(data), l.limit.Load()))
		return burnt, errRestartSequence
	}
	if l.finished() {
		return true, errStopped
	}
	interval := o.heartbeatInterval()
	if interval == 0 {
		<-l.queue.ready() // From push, acknowledge, watch, close, and stop.
		return false, nil
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-l.queue.ready():
		return false, nil
	case <-timer.C:
	}
	if l.queue.unacknowledged() > 0 {
		return false, nil // The reader is busy with that, and waits for nothing.
	}
	err = o.sendHeartbeat()
	return err != nil, err
}
