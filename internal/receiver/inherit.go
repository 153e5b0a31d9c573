// SPDX-License-Identifier: Apache-2.0

package receiver

// This file is the other side of handover.go: a Reader inherits what the previous process has
// stored with systemd.

import (
	"fmt"
	"io"
	"net"
	"time"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/socket"
	"github.com/udsipc/udsipc/internal/systemd"
	"github.com/udsipc/udsipc/internal/wire"
)

// An inheritedState is what an earlier process has stored.
type inheritedState struct {
	names    map[string]bool // Names to remove from the store after the Reader has started.
	listener *systemd.Stored
	boundTo  systemd.ListenerIdentity // What the listener is bound to.
	// The same, opened, as long as it is of no use: its backlog is still to be served.
	unusedListener net.Listener
	conns          []inheritedConn
	state          wire.HandOverState
	errs           []error // Errors of loading it.
}

// An inheritedConn is a connection of it.
type inheritedConn struct {
	conn    net.Conn
	kind    string
	session *wire.SessionSnapshot // nil without acknowledgements.
}

// loadInherited loads what an earlier process has stored under key.
func loadInherited(key string) *inheritedState {
	list, err := systemd.LoadStored(key)
	return newInheritedState(list, err)
}

// newInheritedState sorts what was loaded. err is an error of loading it; the list is what was loaded all the same.
func newInheritedState(list []systemd.Stored, err error) *inheritedState {
	l := &inheritedState{names: make(map[string]bool)}
	l.addErr(err)
	for i := range list {
		l.names[list[i].Name] = true
		if list[i].Kind == systemd.StoreHandOverState {
			l.addErr(l.readState(&list[i]))
		}
	}
	sessions := make(map[uint64]*wire.SessionSnapshot)
	for i := range l.state.Sessions {
		sessions[l.state.Sessions[i].Inode] = &l.state.Sessions[i]
	}
	for i := range list {
		left := &list[i]
		switch {
		case left.Kind == systemd.StoreHandOverState:
		case left.Kind == systemd.StoreProbe, left.Kind == systemd.StoreListener && l.listener != nil:
			_ = left.File.Close() // An earlier process was killed: its duplicate is not needed.
		case left.Kind == systemd.StoreListener:
			l.listener = left
		default:
			conn, err := left.Conn()
			if l.addErr(err); err == nil {
				l.conns = append(l.conns, inheritedConn{conn: conn, kind: left.Kind, session: sessions[left.Inode]})
			}
		}
	}
	return l
}

func (l *inheritedState) addErr(err error) {
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

func (l *inheritedState) readState(left *systemd.Stored) (err error) {
	defer left.File.Close()
	info, err := left.File.Stat()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(left.File, 0, info.Size()))
	if err == nil {
		l.state, err = wire.ParseHandOverState(data)
	}
	return err
}

// takeListener returns the listener that an earlier process has stored, if the address of spec still leads to it.
// Otherwise, or if it is not needed, it is kept in unusedListener. After an error it may be called again.
func (l *inheritedState) takeListener(spec socket.Spec,
	needed bool) (listener net.Listener, file *socket.File, err error) {
	if left := l.listener; left != nil {
		l.listener = nil
		l.boundTo = left.Identity
		if l.unusedListener, err = left.Listener(); err != nil {
			l.unusedListener = nil
			l.addErr(err)
		}
	}
	if l.unusedListener == nil || !needed {
		return nil, nil, nil
	}
	listener = l.unusedListener
	same := l.boundTo.Address == spec.Address.Hash() || spec.Address.Matches(listener.Addr())
	if !same {
		return nil, nil, nil
	}
	if spec.Address.IsFile() {
		bound := socket.Identity{Device: l.boundTo.Device, Inode: l.boundTo.Inode}
		if file, err = bound.Find(spec); file == nil || err != nil {
			return nil, nil, err
		}
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	l.unusedListener = nil
	return listener, file, nil
}

// removeStored removes the loaded descriptors from the store after the Reader listens. Had the
// start failed, another process could still inherit them.
func (l *inheritedState) removeStored() {
	if l == nil {
		return
	}
	for name := range l.names {
		l.addErr(systemd.RemoveStored(name))
	}
}

// adoptInherited admits the inherited connections before any new one.
func (s *Server) adoptInherited(l *inheritedState) {
	if l == nil {
		return
	}
	for _, err := range l.errs {
		s.Report(errdefs.OpHandOver, s.cfg.AddrText, err)
	}
	s.writerStates.restore(l.state.Writers, time.Now())
	for i := range l.conns {
		left := &l.conns[i]
		if left.kind == systemd.StoreSession && left.session == nil {
			s.Report(errdefs.OpHandOver, s.cfg.AddrText,
				fmt.Errorf("%w: no entry for a session; connection closed", wire.ErrHandOverState))
			_ = left.conn.Close() // Its writer retransmits unacknowledged messages.
			continue
		}
		s.counts.takenOver.Add(1)
		s.admit(left.conn, left)
	}
	if l.unusedListener != nil {
		s.Report(errdefs.OpHandOver, s.cfg.AddrText, fmt.Errorf(
			"the listener at %v is not the one of %s any more, and is closed",
			l.unusedListener.Addr(), s.cfg.AddrText))
		s.serveBacklog(l.unusedListener)
	}
}

// serveBacklog accepts the connections that wait in a listener, and closes it.
func (s *Server) serveBacklog(listener net.Listener) {
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
		// If this fails, later connections are closed with the listener.
		_ = socket.HalfCloseListener(unix)
	}
	defer listener.Close()
	waking, ok := listener.(deadliner)
	for ok && waking.SetDeadline(time.Now().Add(backlogWait)) == nil {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		s.admit(conn, nil)
	}
}

// claimInherited acquires the writer state for an inherited connection, before any new connection
// can.
func (c *stream) claimInherited(left *wire.SessionSnapshot) {
	c.inherited = left
	c.fenced = make(chan struct{})
	key := wire.WriterKey{Identity: c.peer.Identity(), Writer: left.Writer.Key.Writer}
	c.ownership, c.resumeErr = c.server.writerStates.acquireInherited(key, left.Writer, c.fence)
}

// resumeSession continues the session of an inherited connection. It returns false if that is not possible.
func (c *stream) resumeSession() bool {
	left := c.inherited
	if c.resumeErr != nil {
		c.server.Report(errdefs.OpOpenSession, c.addrText(), c.resumeErr)
		return false
	}
	c.writer = left.Writer.Key.Writer
	c.attempts = attempts{seq: left.Writer.Handled + 1, count: left.Writer.Failures}
	c.beginSession(left.Writer.Handled, left.Writer.MaybeHandledThrough, left.HeartbeatInterval, left.HeartbeatTimeout)
	if left.Limit > c.server.cfg.In.MaxMessageSize {
		c.in.RequestClose(wire.CloseOrderly) // Its next welcome has the new limit.
	}
	return true
}
