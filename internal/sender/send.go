// SPDX-License-Identifier: Apache-2.0

package sender

// This file is the goroutine of a loop: it connects (connect.go), sends the queue over the connection, and ends the
// connection (disconnect.go).

import (
	"context"
	"errors"
	"fmt"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/transport"
)

// One write takes as many chunks as a batch may have bytes. No constant of type uint64 is negative.
const _ = uint64(transport.MaxVector*queue.ChunkSize - transport.BatchSize)

// errFinished is why a connection ends that nothing went wrong with: everything is delivered and the
// loop is stopping, or it was forced. No connection of a program's own fails with it.
var errFinished = errors.New("udsipc: nothing is left to send")

// run connects and sends until the loop is stopped, or a callback ends the goroutine: from then on
// nothing is accepted, and stop returns what is left.
func (l *Loop) run() {
	defer l.queue.Close()
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
func (l *Loop) runConn(o *transport.Out) {
	go o.ReadLoop(l.queue.Signal) // Ends with the connection; runConn waits for it.
	release := context.AfterFunc(l.life.Context(), o.ForceClose)
	defer release()
	o.OnSlowWrite(l.reportSlowWrite)
	accounted := false
	defer func() {
		if !accounted { // A callback has ended the goroutine.
			o.ForceClose()
			o.WaitReadLoop()
			l.clearCurrent()
		}
	}()

	l.mu.Lock()
	l.current = o
	l.mu.Unlock()
	l.counts.connections.Add(1)
	l.life.SetState(StateConnected, nil)

	if err := l.send(o); err == errFinished {
		l.closeConn(o)
	} else {
		l.onDisconnect(o, err)
	}
	o.WaitReadLoop()
	accounted = true
}

// send writes the queued messages to o. It returns errFinished when all are delivered and the loop is stopping, nil
// when the peer closed the connection, and otherwise why a write failed.
func (l *Loop) send(o *transport.Out) error {
	for !o.IsWriteStopped() {
		bufs := l.queue.NextBatch(l.bufs[:0], transport.BatchSize)
		if len(bufs) == 0 {
			l.reportDropped()
			if ended, err := l.waitForWork(o); ended {
				return err
			}
			continue
		}
		n, err := o.Write(bufs)
		messages, invalid := l.queue.MarkWritten(n)
		if invalid != nil {
			return invalid
		}
		o.Completed(messages)
		l.counts.writes.Add(1)
		l.counts.writtenBytes.Add(uint64(n))
		l.reportDropped()
		if err == nil {
			continue
		}
		if l.life.Forced() {
			return errFinished
		}
		waited, err := o.AfterTimeout(n, err)
		if err != nil {
			return err
		}
		if !waited {
			continue
		}
		l.counts.backpressure.Add(1)
		l.events.Report(errdefs.OpWrite, fmt.Errorf(
			"%w: %d bytes were taken within %v, waiting with the rest", errdefs.ErrBackpressure, n,
			l.cfg.WriteTimeout))
	}
	if l.life.Forced() {
		return errFinished
	}
	return nil
}

// reportSlowWrite reports a write of TLS that waits. It is called while the loop's goroutine is in that write.
func (l *Loop) reportSlowWrite() {
	l.counts.backpressure.Add(1)
	l.events.Report(errdefs.OpWrite, fmt.Errorf("%w: a write has waited for %v, waiting on",
		errdefs.ErrBackpressure, l.cfg.WriteTimeout))
}

// waitForWork waits until there is something to write. It reports whether the connection ends, and what send returns
// then.
func (l *Loop) waitForWork(o *transport.Out) (ended bool, err error) {
	if o.IsSession() {
		return l.waitForWorkInSession(o)
	}
	if l.life.IsStopping() {
		return true, l.waitUntilRead(o)
	}
	<-l.queue.Ready() // From a message, ReadLoop, and Stop.
	return false, nil
}

// waitUntilRead waits, at the end, until the peer has read everything, where the kernel knows. It returns nil if the
// peer closed the connection.
func (l *Loop) waitUntilRead(o *transport.Out) error {
	if !o.CanConfirmRead() {
		return errFinished // The end of the connection tells.
	}
	read := false
	pollUntil(l.life.Context(), func() bool {
		read = o.AllRead()
		return read || o.IsWriteStopped()
	})
	if !read && !l.life.Forced() {
		return nil
	}
	return errFinished
}
