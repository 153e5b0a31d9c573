// SPDX-License-Identifier: Apache-2.0

package sender

// This file has what a loop does only in a session: the session handshake, and the wait for
// acknowledgements instead of the kernel's confirmation.

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/transport"
	"github.com/udsipc/udsipc/internal/wire"
)

// errNoWelcomeYet is what an attempt waits for that has said hello.
var errNoWelcomeYet = fmt.Errorf("%w: no welcome yet", errdefs.ErrBackpressure)

// openSession opens a session on a new connection. It removes the messages from the queue that the
// reader has already handled.
func (l *Loop) openSession(o *transport.Out) error {
	seq := l.queue.Sequence()
	h := wire.Hello{Writer: l.cfg.Writer, Epoch: l.epoch.Add(1), FirstSeq: seq.Acked + 1, LastSentSeq: seq.HighestSent}
	release := context.AfterFunc(l.life.Context(), o.CloseNow)
	defer release()
	l.setHandshaking(o)
	defer l.setHandshaking(nil)
	defer l.life.Awaits(errNoWelcomeYet)()
	answer, err := o.SessionHandshake(h, transport.HandshakeHooks{
		HeartbeatTimeout: l.cfg.HeartbeatTimeout, Acknowledge: l.acknowledge,
		SlowAfter: l.cfg.WriteTimeout, OnSlow: l.reportSlowWelcome, Cancelled: l.finished,
	})
	if err != nil {
		if errors.Is(err, transport.ErrSuperseded) {
			l.tellContested()
		}
		return l.countNoWelcome(err)
	}
	l.noWelcomes = 0
	released, err := l.queue.ApplyWelcome(answer.Handled, answer.Limit)
	if err != nil {
		l.tellContested()
		return err
	}
	l.limit.Store(min(l.cfg.MessageLimit, answer.Limit))
	l.tellHandled()
	if released > 0 {
		o.MarkProgress()
	}
	return nil
}

// tellContested tells the program that another process has the identity of the writer.
func (l *Loop) tellContested() {
	if l.contested != nil {
		l.contested()
	}
}

// noWelcomesOfPlain is the number of connections in a row that a peer must end cleanly without a welcome
// before it counts as a reader without acknowledgements. A reader that is killed looks like that once.
const noWelcomesOfPlain = 2

// countNoWelcome counts the error of a session handshake. It returns ErrAcksUnsupported if that is certain.
func (l *Loop) countNoWelcome(err error) error {
	if !errors.Is(err, transport.ErrNoWelcome) {
		l.noWelcomes = 0
		return err
	}
	if l.noWelcomes++; l.noWelcomes < noWelcomesOfPlain {
		return err
	}
	return fmt.Errorf("%w: it has ended %d connections in a row without an answer to the hello: %w",
		errdefs.ErrAcksUnsupported, l.noWelcomes, io.EOF)
}

// setHandshaking publishes the connection that is in its session handshake, so that Stop can
// interrupt it.
func (l *Loop) setHandshaking(o *transport.Out) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.handshaking = o
}

// interruptHandshake makes the session handshake check whether to continue.
func (l *Loop) interruptHandshake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.handshaking != nil {
		l.handshaking.InterruptHandshake()
	}
}

// reportSlowWelcome reports that the welcome is late. The reader may be busy with messages of an
// earlier connection.
func (l *Loop) reportSlowWelcome() {
	l.counts.backpressure.Add(1)
	l.reportDropped()
	l.events.Report(errdefs.OpOpenSession,
		fmt.Errorf("%w: no welcome within %v, waiting", errdefs.ErrBackpressure, l.cfg.WriteTimeout))
}

// waitForWorkInSession is waitForWork for a session. It also waits until everything is
// acknowledged, and gives up a message that the reader would reject.
func (l *Loop) waitForWorkInSession(o *transport.Out) (ended bool, err error) {
	if data, burnt := l.queue.RemoveOversized(); data != nil {
		l.returnUndelivered(data, fmt.Errorf("%w for the reader: a message of %d bytes, its limit is %d; it is set aside",
			errdefs.ErrMessageTooLarge, len(data), l.limit.Load()))
		l.tellHandled()
		return burnt, transport.ErrRestartSequence
	}
	if l.finished() {
		return true, errFinished
	}
	interval := o.HeartbeatInterval()
	if interval == 0 {
		<-l.queue.Ready() // Set by a message, an acknowledgement, ReadLoop and Stop.
		return false, nil
	}
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-l.queue.Ready():
		return false, nil
	case <-timer.C:
	}
	if l.queue.Unacknowledged() > 0 {
		return false, nil // The reader is busy with these and needs no heartbeat.
	}
	err = o.SendHeartbeat()
	return err != nil, err
}
