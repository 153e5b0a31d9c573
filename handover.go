// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the restart that nobody notices, from the side of the process that ends: its listener, its open
// connections and what it knows of its writers are left with systemd. A connection is left on the boundary of a
// message, so that its writer sees nothing but a pause. takeover.go is the other side, handover_store.go what is left.

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// handOver is stop for a process that another one is to follow at once.
func (s *server) handOver(ctx context.Context) error {
	if err := s.prepareHandOver(); err != nil {
		s.report(opHandOver, s.cfg.addrText, err)
	}
	return s.stop(ctx)
}

// prepareHandOver leaves the listener with systemd. If that fails, Stop will be a mere stop.
func (s *server) prepareHandOver() error {
	s.mu.Lock()
	phase, listener, passed, file := s.phase, s.acceptor.listener, s.acceptor.passed != nil, s.acceptor.file
	s.mu.Unlock()
	switch {
	case phase != phaseStarted, s.acceptor.isSingle():
		return nil
	case s.cfg.withoutSystemd || s.cfg.listener != nil:
		return errors.New("not possible with WithoutSystemd or WithListener")
	}
	if err := s.store.share.begin(); err != nil {
		return err
	}
	if !passed {
		what, ok := listener.(syscall.Conn)
		if !ok {
			return errors.New("a listener without a descriptor cannot be left with systemd")
		}
		if err := s.store.share.addListener(identityOfListener(file.identity(), s.cfg.socket.address), what); err != nil {
			s.store.share.removeAll()
			return err
		}
	}
	s.mu.Lock()
	s.handingOver = s.phase == phaseStarted
	late := !s.handingOver
	s.mu.Unlock()
	if late {
		s.store.share.removeAll()
	}
	return nil
}

// identityOfListener is what tells a listener from others.
func identityOfListener(file fileIdentity, where address) listenerIdentity {
	return listenerIdentity{device: file.device, inode: file.inode, address: where.hash()}
}

// handOver leaves a connection that is at rest with systemd, and waits until it is certain that it is kept. It says
// no if it is not: the connection is ended gracefully instead.
func (c *stream) handOver() bool {
	s, in := c.server, c.in
	kind := storePlain
	switch {
	case c.acks != nil:
		kind = storeSession
	case in.neverRead():
		kind = storeUnread
	}
	in.sendAck()
	what := in.handOverSocket()
	inode, err := s.store.share.addConn(kind, what)
	if err != nil {
		in.refuseHandOver(err)
		return false
	}
	if !s.store.waitDecision(c, c.snapshotSession(inode)) {
		in.refuseHandOver(nil)
		return false
	}
	s.counts.handedOver.Add(1)
	return true
}

// snapshotSession is what the next process has to know of a session; nil without one.
func (c *stream) snapshotSession(inode uint64) *sessionSnapshot {
	if c.acks == nil {
		return nil
	}
	limit, silence, beat := c.acks.negotiated()
	handled := c.acks.handled()
	return &sessionSnapshot{
		inode: inode, writer: c.ownership.snapshot(handled, c.attempts.countFor(handled+1)), limit: limit, heartbeatTimeout: silence, heartbeatInterval: beat,
	}
}

func (s *server) allPaused() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.store.pausedIs(len(s.conns.all))
}

// completeHandOver waits until every connection is at rest or has ended, leaves what is known beside them, and makes
// sure that systemd has it all. If it has not, this becomes a mere Stop.
func (s *server) completeHandOver() {
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
		err = s.store.share.confirm()
	}
	if err == nil {
		_ = s.acceptor.listener.Close() // systemd has it.
		s.acceptor.file.close()
	} else {
		s.report(opHandOver, s.cfg.addrText, fmt.Errorf("ending as Stop does: %w", err))
		s.store.share.removeAll()
		s.fallBackToStop()
	}
	s.store.decide(err == nil)
}

// fallBackToStop ends the listener as Stop does.
func (s *server) fallBackToStop() {
	s.mu.Lock()
	s.handingOver = false
	err := s.acceptor.quiesceLocked()
	s.mu.Unlock()
	if err != nil {
		s.report(opStop, s.cfg.addrText, err)
	}
	_ = s.acceptor.accept() // Those in the backlog; it is stopping.
	_ = s.acceptor.listener.Close()
}
