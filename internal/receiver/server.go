// SPDX-License-Identifier: Apache-2.0

// Package receiver is everything between a listener and a handler. A Server accepts connections,
// authenticates their peers, and either hands their messages to a handler or offers the connections
// to the program. It keeps the state of each writer, and hands its connections over to the next
// process.
package receiver

// This file is a server, from Start to its end. accept.go is where its connections come from,
// connection.go the beginning and end of each. stream.go hands messages to a handler, offer.go
// offers the connection instead. stop.go is the stop.

import (
	"context"
	"net"
	"sync"
	"sync/atomic"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/systemd"
)

// A Server accepts connections and hands their messages to a handler, or offers the connections to the program.
type Server struct {
	cfg          Config
	counts       counters
	writerStates *writerStates // Of the writers with sessions.
	acceptor     acceptor
	health       healthCheck
	notifier     *systemd.Registration
	store        handOverStore
	offers       *acceptQueue // nil: messages go to a handler.
	batcher      *batcher     // Of all connections together; nil without one.

	// Stopping.
	forceCtx       context.Context // Ended by a forced stop.
	forceStop      context.CancelFunc
	inCallback     atomic.Bool   // The accept loop is in a callback, which may wait for it.
	acceptLoopDone chan struct{} // Closed after the last Accept.
	stopping       chan struct{} // Closed when Stop begins, or when accepting failed for good.
	done           chan struct{} // Closed when all connections have ended, or by a forced stop.
	wg             sync.WaitGroup

	mu          sync.Mutex // Guards what follows, and the fields of acceptor that change at the end.
	phase       phase
	doneClosed  bool // done is closed.
	err         error
	conns       connTable
	closing     bool // The connections are being closed gracefully,
	forced      bool // or were halted.
	handingOver bool // The listener and the connections are for the next process.
}

// New returns a server that does not listen yet.
func New(cfg Config) *Server {
	s := &Server{
		cfg:            cfg,
		writerStates:   newWriterStates(cfg.MaxWriterStates, cfg.WriterRetention),
		health:         newHealthCheck(),
		store:          newHandOverStore(cfg.StoreKey),
		conns:          newConnTable(cfg.MaxConnections, cfg.MaxConnectionsPerUser),
		acceptLoopDone: make(chan struct{}),
		stopping:       make(chan struct{}),
		done:           make(chan struct{}),
	}
	s.acceptor.server = s
	s.notifier = systemd.NewRegistration(s, cfg.Notify)
	if cfg.offersConns() {
		s.offers = newAcceptQueue()
	}
	if cfg.Batches != nil && cfg.Batches.Shared {
		s.batcher = newBatcher(s)
	}
	s.forceCtx, s.forceStop = context.WithCancel(context.Background())
	return s
}

// Start listens and returns. It may be called again, also after an error. After Stop it returns
// ErrStopped.
func (s *Server) Start() error {
	s.mu.Lock()
	phase := s.phase
	var err error
	if phase == phaseNew {
		err = s.startLocked()
	}
	s.mu.Unlock()
	switch {
	case phase == phaseStopped:
		return errdefs.ErrStopped
	case phase == phaseNew && err == nil:
		s.notifier.Ready()
	}
	return err
}

func (s *Server) startLocked() error {
	if err := s.acceptor.listenLocked(); err != nil {
		return err
	}
	s.acceptor.inherited.removeStored()
	s.phase = phaseStarted
	s.health.begin(s.acceptor.listener)
	s.notifier.Register()
	s.wg.Add(1)
	go s.run() // Ends with the listener; finish waits for it.
	return nil
}

// Addr returns the address of the listener, or nil before Start.
func (s *Server) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.acceptor.listener == nil {
		return nil
	}
	return s.acceptor.listener.Addr()
}

// Failure returns why the server ended by itself, or nil.
func (s *Server) Failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// IsStopping reports whether Stop has begun, or accepting has failed for good.
func (s *Server) IsStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// run accepts until the listener ends, then waits for the connections.
func (s *Server) run() {
	defer s.wg.Done()
	s.adoptInherited(s.acceptor.inherited)
	if err := s.acceptor.accept(); err != nil {
		s.mu.Lock()
		s.err = errdefs.WithOp(errdefs.OpAccept, s.cfg.AddrText, err)
		s.mu.Unlock()
		s.reportAccept(s.cfg.AddrText, &errdefs.Note{Kind: errdefs.NoteEnded, Err: err})
		s.notifier.Failed(err)
		_ = s.stopListening() // The first error is the one that counts.
	}
	s.mu.Lock()
	if !s.handingOver {
		_ = s.acceptor.listener.Close() // The backlog is empty.
	}
	if !s.acceptor.isSingle() {
		s.closeConnsLocked()
	}
	s.mu.Unlock()
	s.acceptor.passed.Release()
	close(s.acceptLoopDone)
	go s.finish() // Ends with the last connection.
}

// finish waits for the connections.
func (s *Server) finish() {
	s.mu.Lock()
	handingOver := s.handingOver
	s.mu.Unlock()
	if handingOver {
		s.completeHandOver()
	}
	s.offers.finish()
	s.wg.Wait()
	s.forceStop()
	s.closeDone()
}

// waitForSlot waits while the number of rejected connections equals the limit of open ones: the
// backlog can wait longer. It returns false when the stop is forced.
func (s *Server) waitForSlot() bool {
	for {
		s.mu.Lock()
		full := s.conns.rejecting >= s.conns.max
		s.mu.Unlock()
		if !full {
			return true
		}
		select {
		case <-s.conns.connEnded:
		case <-s.health.asked:
			s.health.reply()
		case <-s.forceCtx.Done():
			return false
		}
	}
}

// reportAccept is Report in the accept loop.
func (s *Server) reportAccept(addr string, err error) {
	s.inCallback.Store(true)
	defer s.inCallback.Store(false)
	s.Report(errdefs.OpAccept, addr, err)
}

// Report counts and reports an error that no caller gets.
func (s *Server) Report(op, addr string, err error) {
	s.counts.errors.Add(1)
	s.cfg.Report(op, addr, err)
}
