// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the end of a Reader.

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A phase is how far the life of a Reader is.
type phase int

const (
	phaseNew phase = iota
	phaseStarted
	phaseStopped
)

// stopGrace is how long a Stop whose context has ended waits for what was under way. It may be stuck in a callback.
const stopGrace = 20 * time.Millisecond

// Stop ends the Reader without losing a message. It refuses new connections, serves those that are
// waiting, keeps every peer from writing more, handles all that the kernel has accepted by then, and
// removes its socket. Where the kernel cannot refuse a peer's writes (anything but a Unix socket on
// Linux), it asks the peer to end, and waits a second for that.
//
// ctx bounds Stop alone: give it one of its own, because the one that told the program to end has ended.
// When ctx ends first, connections are closed and Stop returns at once with an error that says how
// many were still busy. Handlers that run are left behind, and none is called any more: what was read and is not
// handled comes again in a session. Otherwise it is reported and counted (Discarded), and the writer is told of it, unless a
// handler that does not return keeps that from happening. It may be called before Start,
// again, and from several goroutines. From inside a handler it can only end with ctx.
func (r *Reader) Stop(ctx context.Context) error {
	if r.neverStarted() {
		return nil
	}
	err := r.stopListening()
	select {
	case <-r.done:
	case <-ctx.Done():
		err = errors.Join(r.force(ctx), err)
	}
	return asOpError(OpStop, r.cfg.where, err)
}

// neverStarted ends a Reader that was not started, and says whether it is one.
func (r *Reader) neverStarted() bool {
	r.mu.Lock()
	never := r.phase == phaseNew
	if never {
		r.phase = phaseStopped
		close(r.stopping)
		close(r.listened)
		close(r.drained)
	}
	r.mu.Unlock()
	if never {
		r.end()
	}
	return never
}

// stopListening begins the end, once: the others do nothing.
func (r *Reader) stopListening() error {
	r.mu.Lock()
	begins := r.phase == phaseStarted
	var err error
	if begins {
		err = r.stopListeningLocked()
	}
	r.mu.Unlock()
	if begins {
		supervision.retire(r)
	}
	return err
}

func (r *Reader) stopListeningLocked() error {
	r.phase = phaseStopped
	close(r.stopping)
	err := r.quiesceLocked()
	if r.shut || r.passed != nil || r.handingOver {
		r.closeConnsLocked()
	}
	return err
}

// closeConnsLocked ends the connections gracefully, and those that are still to be admitted. A writer
// that is sent away connects again at once. Where nothing keeps it from the listener, that has to be
// closed before, or the writer would be in the backlog when it is.
func (r *Reader) closeConnsLocked() {
	r.closing = true
	for c := range r.conns {
		r.endLocked(c)
	}
}

// endLocked ends a connection gracefully: for its writer, or for this process.
func (r *Reader) endLocked(c *readerConn) {
	if r.conversations != nil {
		return // Those who converse decide.
	}
	if r.handingOver && !c.refused {
		c.in.requestHandOver()
	} else if c.refused {
		c.in.requestClose(endFull)
	} else {
		c.in.requestClose(endOrderly)
	}
}

// force ends what is left without waiting for it. If nothing is, ctx has ended in the same moment, or long before.
func (r *Reader) force(ctx context.Context) error {
	select {
	case <-r.done:
		return nil
	default:
	}
	r.mu.Lock()
	r.forced = true
	busy := len(r.conns)
	conns := make([]*readerConn, 0, busy)
	for c := range r.conns {
		conns = append(conns, c)
	}
	listener := r.listener
	r.mu.Unlock()
	for _, c := range conns {
		c.in.halt() // Before a handler that heeds its context returns: no other is called any more.
	}
	r.giveUp()
	if listener != nil { // Else it was never started, and another Stop is about to say so.
		_ = listener.Close() // Accepting ends at once; an error is the one of closing it twice.
	}
	for _, c := range conns {
		if c.in.isAcknowledged() {
			c.in.closeNow() // A plain one tells its writer how far it came, unless something holds it up.
		}
	}
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-r.done:
	case <-timer.C:
		for _, c := range conns {
			c.in.closeNow()
		}
		r.end()
	}
	if busy == 0 {
		return nil
	}
	return fmt.Errorf("%d connections were still busy and were closed: %w", busy, context.Cause(ctx))
}

// end closes done, once.
func (r *Reader) end() {
	supervision.leave(r)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ended {
		r.ended = true
		close(r.done)
	}
}
