// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the one goroutine of a Writer: it connects (connect.go), drains the queue into the connection, and
// settles what became of each message when the connection ends.

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// run connects and drains until the Writer is stopped.
func (w *Writer) run() {
	defer close(w.done)
	for {
		o, err := w.connect()
		if err != nil {
			w.reportDropped()
			w.setState(StateStopped, nil)
			return
		}
		w.serve(o)
	}
}

// serve drains the queue into a connection until it ends, and accounts for that end.
func (w *Writer) serve(o *outbound) {
	go o.watch(w.queue.signal) // Ends with the connection; the end of serve waits for it.
	release := context.AfterFunc(w.abort, func() {
		if written := o.bytes.Load(); o.arrived() {
			o.forced.Store(written)
		}
		o.leave()
		closeNow(o.conn)
	})
	defer release()
	o.onWait(w.stillWriting)

	w.mu.Lock()
	w.current = o
	w.mu.Unlock()
	w.counts.connections.Add(1)
	w.setState(StateConnected, nil)

	if err := w.drain(o); errors.Is(err, errStopped) {
		w.close(o)
	} else {
		w.settle(o, err)
	}
	<-o.ended
}

// drain writes what is queued to o. It returns errStopped when everything is delivered and the Writer
// is stopping, nil when the peer left, and otherwise why a write failed.
func (w *Writer) drain(o *outbound) error {
	for !o.leaving.Load() {
		bufs := w.queue.take(w.bufs[:0], batchSize)
		if len(bufs) == 0 {
			w.reportDropped()
			if ended, err := w.rest(o); ended {
				return err
			}
			continue
		}
		n, err := o.write(bufs)
		messages, invalid := w.queue.written(n)
		if invalid != nil {
			return invalid
		}
		o.completed(messages)
		w.counts.writes.Add(1)
		w.counts.writtenBytes.Add(uint64(n))
		w.reportDropped()
		if err == nil {
			continue
		}
		if w.abort.Err() != nil {
			return errStopped
		}
		if !isTimeout(err) || !o.resumable() {
			return err
		}
		if o.poked.Swap(false) {
			continue
		}
		if n == 0 && time.Since(o.armed) < min(o.timeout, atOnce) {
			return fmt.Errorf("%w: a write fails by a timeout before its time: %v", errConnectionClosed, err) // And so will all.
		}
		w.counts.backpressure.Add(1)
		w.report(opWrite, fmt.Errorf("%w: %d bytes were taken within %v, waiting with the rest", errBackpressure, n, w.cfg.writeTimeout))
	}
	if w.abort.Err() != nil {
		return errStopped
	}
	return nil
}

// stillWriting reports a write of TLS that waits. It is called while the drain goroutine is in that write.
func (w *Writer) stillWriting() {
	w.counts.backpressure.Add(1)
	w.report(opWrite, fmt.Errorf("%w: a write has waited for %v, waiting on", errBackpressure, w.cfg.writeTimeout))
}

// rest waits until there is something to write. It says that the connection ends, and with what drain
// returns then.
func (w *Writer) rest(o *outbound) (ended bool, err error) {
	if o.back != nil {
		return w.restInSession(o)
	}
	if w.stopping.Load() {
		return true, w.linger(o)
	}
	<-w.queue.awake() // From push, watch, close, and a signal of Stop's.
	return false, nil
}

// linger waits, at the end, until the peer has read everything, where the kernel tells. It returns nil if the peer left.
func (w *Writer) linger(o *outbound) error {
	if !o.tellsRead() {
		return errStopped // The end of the connection tells.
	}
	read := false
	poll(w.abort, func() bool {
		read = o.consumed(o.bytes.Load())
		return read || o.leaving.Load()
	})
	switch {
	case read:
		o.settled = o.messages // Known now; once the peer has closed its end, nobody could tell.
	case w.abort.Err() == nil:
		return nil
	}
	return errStopped
}

// close ends a connection that nothing is wrong with. Without a session it hears what the peer has to say of what was
// written.
func (w *Writer) close(o *outbound) {
	if o.back == nil {
		end := o.part(w.abort.Done())
		w.noteUnread(end)
		w.reportEnd(o, end)
	}
	_ = o.conn.Close()
	w.queue.rewind()
	w.forget()
}

// noteUnread keeps for Stop what became not known because its context ended.
func (w *Writer) noteUnread(end ending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unread = end.unread
}

// settle accounts for a connection that broke, or that the peer ended.
func (w *Writer) settle(o *outbound, writeErr error) {
	end := o.finish(writeErr, w.abort.Done())
	w.counts.lostConnections.Add(1)
	w.noteUnread(end)
	w.reportEnd(o, end)
	if !errors.Is(end.cause, errRenumber) && (o.messages > 0 || !w.queue.empty()) { // An idle one had no chance to prove anything.
		w.failures = o.failures(w.failures)
	}
	partial, size := w.queue.rewind()
	if o.back == nil {
		w.setAside(partial, w.poison.blame(end, partial, size, o.messages > 0))
	}
	w.limit.Store(w.cfg.maxMessageSize) // The next reader may accept more than this one.
	w.forget()
	w.setState(StateLost, fmt.Errorf("%w: %w", errConnectionClosed, end.cause))
}

// reportEnd reports what is wrong with the end of a connection.
func (w *Writer) reportEnd(o *outbound, end ending) {
	if end.lost > 0 {
		w.counts.possiblyLost.Add(end.lost)
		w.report(opWrite, &possibleLossError{Messages: end.lost, Err: end.cause})
	} else if end.reason.rejects() {
		w.report(opDial, end.cause)
	}
	if o.back != nil && (errors.Is(end.cause, errInvalidSession) || errors.Is(end.cause, errPeerSilent)) {
		w.report(opSession, end.cause)
	}
}

// forget publishes that there is no connection, once its end is accounted for.
func (w *Writer) forget() {
	w.mu.Lock()
	w.current = nil
	w.mu.Unlock()
}

// setAside hands the first message, which has this number, back because of this verdict, if it is one: its reader
// refuses it, and it must not hold up those behind it for ever. It may have been dropped meanwhile.
func (w *Writer) setAside(number uint64, verdict error) {
	if verdict == nil {
		return
	}
	if data, ok := w.queue.setAside(number); ok {
		w.handBack(data, verdict)
	}
}

// handBack reports why a message cannot be delivered, and gives it to WithUndelivered.
func (w *Writer) handBack(data []byte, why error) {
	w.report(opWrite, why)
	if w.cfg.undelivered != nil {
		w.cfg.undelivered(data)
	}
}

// reportDropped reports what the queue dropped since the last time.
func (w *Writer) reportDropped() {
	if w.cfg.overflow != OverflowDropOldest && w.cfg.maxAge == 0 {
		return
	}
	w.told.Lock()
	now := w.queue.tally()
	dropped, expired := now.dropped-w.told.dropped, now.expired-w.told.expired
	w.told.dropped, w.told.expired = now.dropped, now.expired
	w.told.Unlock()
	if dropped > 0 {
		w.report(opQueue, fmt.Errorf("%w: the oldest %d messages were dropped", errBufferFull, dropped))
	}
	if expired > 0 {
		w.report(opQueue, fmt.Errorf("%d messages were older than %v (WithMaxAge) and were dropped", expired, w.cfg.maxAge))
	}
}
