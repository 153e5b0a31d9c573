// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what the goroutine of a Writer does otherwise in a session: it greets, and it waits
// for acknowledgements where it would wait for the kernel.

import (
	"context"
	"fmt"
	"time"
)

// greet opens a session on a new connection, and lets the messages leave the queue that the reader
// says it has handled.
func (w *Writer) greet(o *outbound) error {
	seq := w.queue.sequence()
	w.attempt++
	h := hello{writer: w.id, attempt: w.attempt, first: seq.acked + 1, sent: seq.highest}
	o.back = &backChannel{queue: w.queue}
	if o.kind != unixSocket {
		h.silence = w.cfg.peerTimeout
		o.back.silence = h.silence
	}
	release := context.AfterFunc(w.abort, func() { closeNow(o.conn) })
	defer release()
	w.introduce(o)
	defer w.introduce(nil)
	answer, err := o.greet(h, greeter{patience: w.cfg.writeTimeout, waiting: w.stillWaiting, giveUp: w.finished})
	if err != nil {
		return err
	}
	released, err := w.queue.resume(answer.handled, answer.limit)
	if err != nil {
		return err
	}
	w.limit.Store(min(w.cfg.maxMessageSize, answer.limit))
	o.back.progress.Store(released > 0)
	o.back.beat = answer.silence / beatsPerSilence
	return nil
}

// introduce publishes the connection that is being greeted, so that Stop can interrupt that.
func (w *Writer) introduce(o *outbound) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.newcomer = o
}

// stillWaiting reports that the welcome takes long: the reader may be busy with what an earlier
// connection brought.
func (w *Writer) stillWaiting() {
	w.counts.backpressure.Add(1)
	w.reportDropped()
	w.report(opSession, fmt.Errorf("%w: no welcome within %v, waiting", errBackpressure, w.cfg.writeTimeout))
}

// restInSession is rest: what is not acknowledged keeps the Writer from ending, and a message that
// the reader would refuse is handed back.
func (w *Writer) restInSession(o *outbound) (ended bool, err error) {
	if data, burnt := w.queue.refuseLarge(); data != nil {
		w.handBack(data, fmt.Errorf("%w for the reader: a message of %d bytes, its limit is %d; it is set aside",
			errMessageTooLarge, len(data), w.limit.Load()))
		return burnt, errRenumber
	}
	if w.finished() {
		return true, errStopped
	}
	if o.back.beat == 0 {
		<-w.queue.awake() // From push, acknowledge, watch, close, and a signal of Stop's.
		return false, nil
	}
	timer := time.NewTimer(o.back.beat)
	defer timer.Stop()
	select {
	case <-w.queue.awake():
		return false, nil
	case <-timer.C:
	}
	if w.queue.unacknowledged() > 0 {
		return false, nil // The reader is busy with that, and waits for nothing.
	}
	if err = o.sayAlive(); err != nil && !o.leaving.Load() {
		_ = o.conn.Close() // Half a heartbeat may be on its way.
	}
	return err != nil, err
}
