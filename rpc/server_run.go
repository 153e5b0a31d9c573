// SPDX-License-Identifier: Apache-2.0

package rpc

// This file runs and ends a Server, and has the goroutines that serve its calls.

import (
	"context"
	"runtime"
)

// Stop rejects new connections, completes the calls in flight, sends their responses, and closes
// the connections. When ctx ends first, the contexts of the handlers end, the connections are
// closed, and Stop returns at once. It may be called before Start and again. Within a handler it
// returns only when ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	err := s.duplex.Stop(ctx)
	s.stopWorkers()
	return err
}

// Close is Stop with a context that ends after udsipc.WithCloseTimeout, 5 s by default. It may be called
// again. It implements io.Closer.
func (s *Server) Close() error {
	defer s.stopWorkers()
	return s.duplex.Close()
}

// Run starts the Server, waits until ctx ends or the Server can accept no more, and closes it. It
// returns the error of Start; else it joins the permanent error of accepting, and that of Close. The end
// of ctx is no error. Run returns udsipc.ErrStopped after Stop, and nil when another call of Stop ends.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Start(); err != nil {
		return err // It may be started again: its workers go on.
	}
	defer s.stopWorkers()
	return s.duplex.Run(ctx)
}

// serve runs a call, then others as a worker.
func (s *Server) serve(c *call) {
	for {
		c.run()
		if s.idle.Add(1) > maxIdleWorkers || s.stopped.Load() {
			s.idle.Add(-1)
			return
		}
		c = <-s.work
		if s.idle.Add(-1); c == nil {
			return
		}
	}
}

// stopWorkers ends the idle workers.
func (s *Server) stopWorkers() {
	s.stopped.Store(true)
	for s.idle.Load() > 0 { // Each worker is about to wait, or sees that the Server has stopped.
		select {
		case s.work <- nil:
		default:
			runtime.Gosched()
		}
	}
}
