// SPDX-License-Identifier: Apache-2.0

package duplex

// This file starts and ends a Server.

import (
	"context"
	"errors"
	"fmt"

	"github.com/udsipc/udsipc"
	"github.com/udsipc/udsipc/internal/seam"
)

// Start listens and returns. Another call has no effect. After Stop it returns udsipc.ErrStopped.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopping {
		return udsipc.ErrStopped
	}
	if s.started {
		return nil
	}
	if err := s.listener.Start(); err != nil {
		return err
	}
	s.started = true
	s.wg.Go(s.accept) // Ends with the listener; Stop waits for it.
	return nil
}

// Stop stops listening and closes every connection. It handles the messages that the clients have
// sent: all on a Unix socket on Linux, elsewhere those that were read. It sends the queued
// messages. Unsent messages of a client that does not read (udsipc.WithStallTimeout) are reported.
//
// When ctx ends first, the connections are closed, the contexts of the handlers end, and Stop
// returns the error of ctx at once. Stop may be called before Start and again. Within a handler it
// returns only when ctx ends.
func (s *Server) Stop(ctx context.Context) error {
	defer s.stopOnce.Do(func() { close(s.stopped) })
	defer s.seam.WatchStop(ctx, func() string { return fmt.Sprintf("%d connections have not ended", len(s.snapshot())) })()
	s.mu.Lock()
	first, accepted := !s.stopping, s.acceptLoopDone
	if s.stopping = true; !s.started {
		accepted = nil
	}
	s.mu.Unlock()
	err := s.seam.Shutdown()
	// A client whose connection is closed earlier would enter the backlog again.
	if first && accepted != nil {
		select {
		case <-accepted:
		case <-ctx.Done():
		}
	}
	if first {
		for _, session := range s.snapshot() {
			session.stop()
		}
	}
	done := make(chan struct{})
	go func() { // Ends with the last handler.
		s.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
		s.forceStop()
		s.seam.End(ctx) // It is closed already; its log is written to the end.
		return err
	case <-ctx.Done():
	}
	s.forceStop()
	s.seam.End(ctx)
	for _, session := range s.snapshot() {
		go session.conn.Close() // Close may wait for the peer; Stop does not.
	}
	return fmt.Errorf("udsipc/duplex: %d connections were still busy: %w", len(s.snapshot()), seam.EndOf(ctx))
}

// Close is Stop with a context that ends after udsipc.WithCloseTimeout, 5 s by default. It may be called
// again. It implements io.Closer.
func (s *Server) Close() error {
	ctx, cancel := s.seam.CloseContext()
	defer cancel()
	return s.Stop(ctx)
}

// Run starts the Server, waits until ctx ends or the Server can accept no more, and closes it. It
// returns the error of Start; else it joins the permanent error of accepting, and that of Close. The end
// of ctx is no error. Run returns udsipc.ErrStopped after Stop, and nil when another call of Stop ends.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Start(); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return s.Close()
	case <-s.stopped:
		return nil // The caller of Stop has the error.
	case err := <-s.failed:
		return errors.Join(err, s.Close())
	}
}

func (s *Server) isStopping() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stopping
}
