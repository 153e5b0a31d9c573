// SPDX-License-Identifier: Apache-2.0

package receiver

// This file is the hand-over from the side of the process that ends: it stores its listener, its
// open connections and the states of its writers with systemd. A connection is stored at a frame
// boundary, so its writer notices nothing but a pause. inherit.go is the other side,
// handover_store.go what is stored.

import (
	"context"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/wire"
)

// HandOver is Stop for a process that another one follows at once.
func (s *Server) HandOver(ctx context.Context) error {
	if err := s.prepareHandOver(); err != nil {
		s.Report(errdefs.OpHandOver, s.cfg.AddrText, err)
	}
	return s.Stop(ctx)
}

// prepareHandOver leaves the listener with systemd. If that fails, Stop will be a mere stop. A
// second call waits for the first and does nothing: it must neither stop the server before that has
// prepared, nor undo what it has prepared.
func (s *Server) prepareHandOver() error {
	s.store.preparing.Lock()
	defer s.store.preparing.Unlock()
	s.mu.Lock()
	phase, listener, passed, file := s.phase, s.acceptor.listener, s.acceptor.passed != nil, s.acceptor.file
	prepared := s.handingOver
	s.mu.Unlock()
	switch {
	case phase != phaseStarted, prepared, s.acceptor.isSingle():
		return nil
	case s.cfg.WithoutSystemd || s.cfg.Listener != nil:
		return errors.New("not possible with WithoutSystemd or WithListener")
	}
	if err := s.store.share.Begin(); err != nil {
		return err
	}
	if !passed {
		what, ok := listener.(syscall.Conn)
		if !ok {
			return errors.New("a listener without a descriptor cannot be left with systemd")
		}
		if err := s.store.share.AddListener(identityOfListener(file.Identity(), s.cfg.Socket.Address), what); err != nil {
			s.store.share.RemoveAll()
			return err
		}
	}
	s.mu.Lock()
	s.handingOver = s.phase == phaseStarted
	late := !s.handingOver
	s.mu.Unlock()
	if late {
		s.store.share.RemoveAll()
	}
	return nil
}

// identityOfListener returns what tells a listener from others.
func identityOfListener(file socket.Identity, where socket.Address) systemd.ListenerIdentity {
	return systemd.ListenerIdentity{Device: file.Device, Inode: file.Inode, Address: where.Hash()}
}

// handOver stores a connection that is paused with systemd, and waits until it is certain that systemd keeps it. It
// returns false if not: the connection is closed gracefully instead.
func (c *stream) handOver() bool {
	s, in := c.server, c.in
	kind := systemd.StorePlain
	switch {
	case c.acks != nil:
		kind = systemd.StoreSession
	case in.NeverRead():
		kind = systemd.StoreUnread
	}
	in.SendAck()
	if in.IsHalted() {
		return false // The writer did not take it, and the next process would not repeat it.
	}
	conn := in.HandOverSocket()
	inode, err := s.store.share.AddConn(kind, conn)
	if err != nil {
		in.RefuseHandOver(err)
		return false
	}
	if !s.store.waitDecision(c, c.snapshotSession(inode)) {
		in.RefuseHandOver(nil)
		return false
	}
	s.counts.handedOver.Add(1)
	return true
}

// snapshotSession returns the state of a session for the next process; nil without a session.
func (c *stream) snapshotSession(inode uint64) *wire.SessionSnapshot {
	if c.acks == nil {
		return nil
	}
	limit, heartbeatTimeout, heartbeatInterval := c.acks.Negotiated()
	handled := c.acks.Handled()
	return &wire.SessionSnapshot{
		Inode: inode, Writer: c.ownership.snapshot(handled, c.attempts.countFor(handled+1)),
		Limit: limit, HeartbeatTimeout: heartbeatTimeout, HeartbeatInterval: heartbeatInterval,
	}
}

func (s *Server) allPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.pausedIs(len(s.conns.all))
}

// completeHandOver waits until every connection is paused or has ended. Then it stores the state
// and waits until systemd confirms. Without the confirmation, the hand-over becomes a Stop.
func (s *Server) completeHandOver() {
	for !s.allPaused() && s.forceCtx.Err() == nil {
		select {
		case <-s.store.pauseChanged:
		case <-s.forceCtx.Done():
		}
	}
	err := s.forceCtx.Err()
	if err == nil {
		err = s.store.addState(s.writerStates)
	}
	if err == nil {
		err = s.store.share.Confirm()
	}
	if err == nil {
		_ = s.acceptor.listener.Close() // systemd has a copy.
		s.acceptor.file.Close()
	} else {
		s.Report(errdefs.OpHandOver, s.cfg.AddrText, fmt.Errorf("ending as Stop does: %w", err))
		s.store.share.RemoveAll()
		s.fallBackToStop()
	}
	s.store.decide(err == nil)
}

// fallBackToStop closes the listener as Stop does.
func (s *Server) fallBackToStop() {
	s.mu.Lock()
	s.handingOver = false
	err := s.acceptor.quiesceLocked()
	s.mu.Unlock()
	if err != nil && !errors.Is(err, net.ErrClosed) { // A forced stop has closed the listener.
		s.Report(errdefs.OpStop, s.cfg.AddrText, err)
	}
	_ = s.acceptor.accept() // Those in the backlog; it is stopping.
	_ = s.acceptor.listener.Close()
}
