// SPDX-License-Identifier: Apache-2.0

package receiver

// This file stops a server.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
)

// A phase is a step in the life cycle of a server.
type phase int

const (
	phaseNew phase = iota
	phaseStarted
	phaseStopped
)

// stopGrace is the time that a forced stop waits for running goroutines. One may be blocked in a
// callback.
const stopGrace = 20 * time.Millisecond

// Stop ends the server without losing a message. When ctx ends first, it becomes a forced stop.
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

// Shutdown is Stop without waiting: connections in the backlog are still served.
func (s *Server) Shutdown() error {
	if s.stopUnstarted() {
		return nil
	}
	return errdefs.WithOp(errdefs.OpStop, s.cfg.AddrText, s.stopListening())
}

// AwaitListened waits, after Shutdown, until the address is free, unless an error callback is running that may wait for
// the caller.
func (s *Server) AwaitListened() {
	if !s.inCallback.Load() {
		<-s.acceptLoopDone
	}
}

// Finished returns a channel that is closed when the server has ended: because of Stop, or because accepting failed for
// good. Failure tells which.
func (s *Server) Finished() <-chan struct{} { return s.done }

// stopUnstarted ends a server that was not started. It reports whether that was so.
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

// stopListening starts the stop. Later calls have no effect.
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

// closeConnsLocked closes the connections gracefully, and those that are still to be admitted. A writer
// whose connection was closed connects again at once. So a listener that accepts everybody is closed
// before, or the writer would be in its backlog.
func (s *Server) closeConnsLocked() {
	s.closing = true
	for c := range s.conns.all {
		c.service.requestEnd()
	}
}

// forceClose closes the remaining connections without waiting.
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
		c.in.Halt() // Before a handler returns because its context ends: no other may be called.
	}
	s.forceStop()
	if listener != nil { // Otherwise it was never started, and another Stop reports that.
		_ = listener.Close() // Accept returns at once. An error means that it is closed already.
	}
	for _, c := range conns {
		if c.in.IsAcknowledged() {
			c.in.CloseNow() // A plain one first sends its report, unless its handler hangs.
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
	return fmt.Errorf("%d connections were still busy and were closed: %w", len(conns), errdefs.EndOf(ctx))
}

// closeDone closes done, once.
func (s *Server) closeDone() {
	s.notifier.Unregister()
	if s.cfg.Ended != nil {
		s.cfg.Ended()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.doneClosed {
		s.doneClosed = true
		close(s.done)
	}
}
