// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the goroutine of a loop: it connects (connect.go), sends the queue over the connection, and ends the
// connection (sender_disconnect.go).

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
	go o.readLoop(l.queue.signal) // Ends with the connection; runConn waits for it.
	release := context.AfterFunc(l.life.context(), o.forceClose)
	defer release()
	o.onSlowWrite(l.reportSlowWrite)

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
	o.waitReadLoop()
}

// send writes what is queued to o. It returns errStopped when everything is delivered and the loop is stopping, nil
// when the peer closed the connection, and otherwise why a write failed.
func (l *loop) send(o *outbound) error {
	for !o.isWriteStopped() {
		bufs := l.queue.nextBatch(l.bufs[:0], batchSize)
		if len(bufs) == 0 {
			l.reportDropped()
			if ended, err := l.waitForWork(o); ended {
				return err
			}
			continue
		}
		n, err := o.write(bufs)
		messages, invalid := l.queue.markWritten(n)
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

// reportSlowWrite reports a write of TLS that waits. It is called while the loop's goroutine is in that write.
func (l *loop) reportSlowWrite() {
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
	if !o.canConfirmRead() {
		return errStopped // The end of the connection tells.
	}
	read := false
	pollUntil(l.life.context(), func() bool {
		read = o.allRead()
		return read || o.isWriteStopped()
	})
	if !read && !l.life.forced() {
		return nil
	}
	return errStopped
}
