// SPDX-License-Identifier: Apache-2.0

package sender

// This file has the goroutine of a loop: it connects (connect.go), sends the queue, and ends the
// connection (disconnect.go).

import (
	"context"
	"errors"
	"fmt"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/queue"
	"github.com/udsipc/udsipc/internal/transport"
)

// The chunks of one vectored write hold at least a whole batch. A negative uint64 does not compile.
const _ = uint64(transport.MaxVector*queue.ChunkSize - transport.BatchSize)

// errFinished ends a connection without a failure: everything is delivered and the loop is
// stopping, or the stop was forced. A program's connection cannot return it.
var errFinished = errors.New("udsipc: nothing is left to send")

// run connects and sends until the loop is stopped, or a callback calls Goexit. After that the
// queue accepts nothing, and Stop returns the remaining messages.
func (l *Loop) run() {
	defer l.queue.Close()
	for {
		o, err := l.connect()
		if err != nil {
			l.reportDropped()
			l.reportBriefEnds(true)
			return
		}
		l.runConn(o)
	}
}

// runConn sends over a connection until it ends, and accounts for its end.
func (l *Loop) runConn(o *transport.Out) {
	go o.ReadLoop(l.queue.Signal) // Ends with the connection; runConn waits for it.
	release := context.AfterFunc(l.life.Context(), o.ForceClose)
	defer release()
	o.OnSlowWrite(l.reportSlowWrite)
	accounted := false
	defer func() {
		if !accounted { // A callback has called Goexit.
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

	if interrupt := o.WriteInterrupter(); interrupt != nil {
		l.queue.StartLoans(interrupt)
	}
	err := l.send(o)
	l.queue.StopLoans()
	if err == errFinished {
		l.closeConn(o)
	} else {
		l.onDisconnect(o, err)
	}
	o.WaitReadLoop()
	accounted = true
}

// send writes the queued messages to o. It returns errFinished when all are delivered and the loop
// is stopping, nil when the peer closed the connection, and otherwise the error of a write.
func (l *Loop) send(o *transport.Out) error {
	l.turn.mu.Lock()
	l.turn.admit(o)
	defer func() {
		l.turn.conn = nil
		l.turn.mu.Unlock()
	}()
	for !o.IsWriteStopped() {
		bufs := l.queue.NextBatch(l.bufs[:0], transport.BatchSize)
		if len(bufs) == 0 {
			l.reportDropped()
			l.reportBriefEnds(false)
			if ended, err := l.waitForWork(o); ended {
				return err
			}
			continue
		}
		n, err := o.Write(bufs)
		if invalid := l.noteWritten(o, n); invalid != nil {
			return invalid
		}
		l.reportDropped()
		l.reportBriefEnds(false)
		if err == nil {
			err = l.offerTurns()
		} else {
			err = l.afterWrite(o, n, err)
		}
		l.tellHandled() // Of messages that were acknowledged before their write had returned.
		if err != nil {
			return err
		}
	}
	if l.life.Forced() {
		return errFinished
	}
	return nil
}

// afterWrite handles a write that took n bytes and failed. It returns the error that ends the
// connection, or nil if the connection can continue.
func (l *Loop) afterWrite(o *transport.Out, n int, err error) error {
	if l.life.Forced() {
		return errFinished
	}
	waited, err := o.AfterTimeout(n, err)
	if err != nil || !waited {
		return err
	}
	l.counts.backpressure.Add(1)
	l.events.Report(errdefs.OpWrite, fmt.Errorf(
		"%w: %d bytes were taken within %v, waiting with the rest", errdefs.ErrBackpressure, n,
		l.cfg.WriteTimeout))
	return nil
}

// noteWritten records that the connection has taken n bytes. The error is about an acknowledgement.
func (l *Loop) noteWritten(o *transport.Out, n int) error {
	messages, invalid := l.queue.MarkWritten(n)
	if invalid != nil {
		return invalid
	}
	o.Completed(messages)
	l.counts.writes.Add(1)
	l.counts.writtenBytes.Add(uint64(n))
	return nil
}

// reportSlowWrite reports a TLS write that waits. It is called while the goroutine is in that
// write.
func (l *Loop) reportSlowWrite() {
	l.counts.backpressure.Add(1)
	l.events.Report(errdefs.OpWrite, fmt.Errorf("%w: a write has waited for %v, waiting on",
		errdefs.ErrBackpressure, l.cfg.WriteTimeout))
}

// waitForWork waits until there is something to write. ended reports whether the connection is to
// end, and err is then the result of send.
func (l *Loop) waitForWork(o *transport.Out) (ended bool, err error) {
	if o.IsSession() {
		return l.waitForWorkInSession(o)
	}
	if l.life.IsStopping() {
		return true, l.waitUntilRead(o)
	}
	l.turn.mu.Unlock()
	<-l.queue.Ready() // Set by a message, ReadLoop, Stop, and a turn that has failed.
	l.turn.mu.Lock()
	err = l.turnFailure() // Of a producer that has got its turn late.
	return err != nil, err
}

// waitUntilRead waits at a stop until the peer has read everything, if the kernel reports that. It
// returns nil if the peer closed the connection.
func (l *Loop) waitUntilRead(o *transport.Out) error {
	if !o.CanConfirmRead() {
		return errFinished // The end of the connection shows what was read.
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
