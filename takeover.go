// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the other side of handover.go: a Reader takes what the one before it has left with systemd.

import (
	"fmt"
	"io"
	"net"
	"time"
)

// A inheritedState is what an earlier process has left.
type inheritedState struct {
	names          map[string]bool // Of what systemd may forget once the Reader has started.
	listener       *storedDescriptor
	boundTo        listenerIdentity // What that is bound to.
	unusedListener net.Listener     // The same, opened, as long as it is of no use: who waits in it is still to be served.
	conns          []inheritedConn
	state          handOverState
	errs           []error // What is wrong with it.
}

// A inheritedConn is a connection of it.
type inheritedConn struct {
	conn    net.Conn
	kind    string
	session *sessionSnapshot // nil without acknowledgements.
}

// loadInherited takes what an earlier process has left for key.
func loadInherited(key string) *inheritedState {
	l := &inheritedState{names: make(map[string]bool)}
	list, err := loadStored(key)
	l.addErr(err)
	for i := range list {
		l.names[list[i].name] = true
		if list[i].kind == storeHandOverState {
			l.addErr(l.readState(&list[i]))
		}
	}
	sessions := make(map[uint64]*sessionSnapshot)
	for i := range l.state.sessions {
		sessions[l.state.sessions[i].inode] = &l.state.sessions[i]
	}
	for i := range list {
		left := &list[i]
		switch {
		case left.kind == storeHandOverState:
		case left.kind == storeProbe, left.kind == storeListener && l.listener != nil:
			_ = left.file.Close() // A process was killed; systemd keeps a listener once.
		case left.kind == storeListener:
			l.listener = left
		default:
			conn, err := left.conn()
			if l.addErr(err); err == nil {
				l.conns = append(l.conns, inheritedConn{conn: conn, kind: left.kind, session: sessions[left.inode]})
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

func (l *inheritedState) readState(left *storedDescriptor) (err error) {
	defer left.file.Close()
	info, err := left.file.Stat()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(left.file, 0, info.Size()))
	if err == nil {
		l.state, err = parseHandOverState(data)
	}
	return err
}

// takeListener returns the listener that an earlier process has left, if whoever connects to the address of spec still
// comes to it. Otherwise, or if the Reader has one, it is spare. After an error it may be called again.
func (l *inheritedState) takeListener(spec listenSpec, needed bool) (listener net.Listener, file *socketFile, err error) {
	if left := l.listener; left != nil {
		l.listener = nil
		l.boundTo = left.identity
		if l.unusedListener, err = left.listener(); err != nil {
			l.unusedListener = nil
			l.addErr(err)
		}
	}
	if l.unusedListener == nil || !needed {
		return nil, nil, nil
	}
	listener = l.unusedListener
	same := l.boundTo.address == spec.address.hash() || spec.address.matches(listener.Addr())
	if !same {
		return nil, nil, nil
	}
	if spec.address.isFile() {
		if file, err = (fileIdentity{device: l.boundTo.device, inode: l.boundTo.inode}).find(spec); file == nil || err != nil {
			return nil, nil, err
		}
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	l.unusedListener = nil
	return listener, file, nil
}

// removeStored has systemd forget what was taken, once the Reader listens: if that failed, another process could
// still take it.
func (l *inheritedState) removeStored() {
	if l == nil {
		return
	}
	for name := range l.names {
		l.addErr(removeStored(name))
	}
}

// adoptInherited goes on with what an earlier process has left, before anybody else is accepted.
func (s *server) adoptInherited(l *inheritedState) {
	if l == nil {
		return
	}
	for _, err := range l.errs {
		s.report(opHandOver, s.cfg.addrText, err)
	}
	s.writerStates.restore(l.state.writers, time.Now())
	for i := range l.conns {
		left := &l.conns[i]
		if left.kind == storeSession && left.session == nil {
			s.report(opHandOver, s.cfg.addrText, fmt.Errorf("%w: no entry for a session; connection closed", errHandOverState))
			_ = left.conn.Close() // Its writer sends again what was not acknowledged.
			continue
		}
		s.counts.takenOver.Add(1)
		s.admit(left.conn, left)
	}
	if l.unusedListener != nil {
		s.report(opHandOver, s.cfg.addrText, fmt.Errorf("the listener at %v is not the one of %s any more, and is closed", l.unusedListener.Addr(), s.cfg.addrText))
		s.serveBacklog(l.unusedListener)
	}
}

// serveBacklog serves who waits in a listener, and closes it.
func (s *server) serveBacklog(listener net.Listener) {
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
		_ = halfCloseListener(unix) // If it cannot be shut, who comes later is closed with it.
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

// claimInherited makes a connection that an earlier process has left the one that speaks for its writer, before any other can.
func (c *stream) claimInherited(left *sessionSnapshot) {
	c.inherited = left
	c.fenced = make(chan struct{})
	key := writerKey{identity: c.peer.identity(), writer: left.writer.key.writer}
	c.ownership, c.resumeErr = c.server.writerStates.acquireInherited(key, left.writer, c.fence)
}

// resumeSession goes on with its session. It says no if that is not possible.
func (c *stream) resumeSession() bool {
	left := c.inherited
	if c.resumeErr != nil {
		c.server.report(opOpenSession, c.addrText(), c.resumeErr)
		return false
	}
	c.writer = left.writer.key.writer
	c.attempts = attempts{seq: left.writer.handled + 1, count: left.writer.failures}
	c.beginSession(left.writer.handled, left.writer.maybeHandledThrough, left.heartbeatInterval, left.heartbeatTimeout)
	if left.limit > c.server.cfg.in.maxMessageSize {
		c.in.requestClose(closeOrderly) // Its next welcome tells the new limit.
	}
	return true
}
