// SPDX-License-Identifier: Apache-2.0

package receiver

// This file is the end of a server.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A phase is how far the life of a server is.
type phase int

const (
	phaseNew phase = iota
	phaseStarted
	phaseStopped
)

// stopGrace is how long a Stop whose context has ended waits for what was under way. It may be stuck in a callback.
const stopGrace = 20 * time.Millisecond

// Stop ends the server without losing a message. When ctx ends first, it does not wait any longer.
func (s *Server) Stop(ctx context.Context) error {
	if s.stopUnstarted() {
		return nil
	}
	err := s.stopListening()
	select {
	case <-s.done:
	case <-ctx.Done():
		err = errors.Join(s.forceClose(ctx), err)
	}
	return errdefs.WithOp(errdefs.OpStop, s.cfg.AddrText, err)
}

// Shutdown is stop without waiting for anything: who has connected before is still served.
func (s *Server) Shutdown() error {
	if s.stopUnstarted() {
		return nil
	}
	return errdefs.WithOp(errdefs.OpStop, s.cfg.AddrText, s.stopListening())
}

// AwaitListened waits, after shutdown, until the address is free, unless an error callback is running that may wait for
// the caller.
func (s *Server) AwaitListened() {
	if !s.inCallback.Load() {
		<-s.acceptLoopDone
	}
}

// Finished returns a channel that is closed when the server has ended: because of stop, or because accepting failed for
// good. failure tells which.
func (s *Server) Finished() <-chan struct{} { return s.done }

// stopUnstarted ends a server that was not started, and says whether it is one.
func (s *Server) stopUnstarted() bool {
	s.mu.Lock()
	never := s.phase == phaseNew
	if never {
		s.phase = phaseStopped
		close(s.stopping)
		close(s.acceptLoopDone)
		s.offers.finish()
	}
	s.mu.Unlock()
	if never {
		s.closeDone()
	}
	return never
}

// stopListening begins the end, once: the others do nothing.
func (s *Server) stopListening() error {
	s.mu.Lock()
	begins := s.phase == phaseStarted
	var err error
	if begins {
		err = s.stopListeningLocked()
	}
	s.mu.Unlock()
	if begins {
		s.notifier.Stopping()
	}
	return err
}

func (s *Server) stopListeningLocked() error {
	s.phase = phaseStopped
	close(s.stopping)
	s.health.end()
	err := s.acceptor.quiesceLocked()
	if s.acceptor.halfClosed || s.acceptor.passed != nil || s.handingOver {
		s.closeConnsLocked()
	}
	return err
}

// closeConnsLocked ends the connections gracefully, and those that are still to be admitted. A writer
// that is sent away connects again at once. Where nothing keeps it from the listener, that has to be
// closed before, or the writer would be in the backlog when it is.
func (s *Server) closeConnsLocked() {
	s.closing = true
	for c := range s.conns.all {
		c.service.requestEnd()
	}
}

// forceClose ends what is left without waiting for it. If nothing is, ctx has ended in the same moment, or long before.
func (s *Server) forceClose(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	default:
	}
	s.mu.Lock()
	s.forced = true
	conns := slices.Collect(maps.Keys(s.conns.all))
	listener := s.acceptor.listener
	s.mu.Unlock()
	for _, c := range conns {
		c.in.Halt() // Before a handler that heeds its context returns: no other is called any more.
	}
	s.forceStop()
	if listener != nil { // Else it was never started, and another Stop is about to say so.
		_ = listener.Close() // Accepting ends at once; an error is the one of closing it twice.
	}
	for _, c := range conns {
		if c.in.IsAcknowledged() {
			c.in.CloseNow() // A plain one tells its writer how far it came, unless something holds it up.
		}
	}
	timer := time.NewTimer(stopGrace)
	defer timer.Stop()
	select {
	case <-s.done:
	case <-timer.C:
		for _, c := range conns {
			c.in.CloseNow()
		}
		s.closeDone()
	}
	if len(conns) == 0 {
		return nil
	}
	return fmt.Errorf("%d connections were still busy and were closed: %w", len(conns), context.Cause(ctx))
}

// closeDone closes done, once.
func (s *Server) closeDone() {
	s.notifier.Unregister()
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.doneClosed {
		s.doneClosed = true
		close(s.done)
	}
}
