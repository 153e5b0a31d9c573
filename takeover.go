// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the other side of handover.go: a Reader takes what the one before it has left with systemd.

import (
	"fmt"
	"io"
	"net"
	"time"
)

// A legacy is what an earlier process has left.
type legacy struct {
	names    map[string]bool // Of what systemd may forget once the Reader has started.
	listener *stored
	bound    bound        // What that is bound to.
	spare    net.Listener // The same, opened, as long as it is of no use: who waits in it is still to be served.
	conns    []legacyConn
	state    legacyState
	errs     []error // What is wrong with it.
}

// A legacyConn is a connection of it.
type legacyConn struct {
	conn    net.Conn
	kind    string
	session *legacySession // nil without acknowledgements.
}

// takeLegacy takes what an earlier process has left for key.
func takeLegacy(key string) *legacy {
	l := &legacy{names: make(map[string]bool)}
	list, err := takeStored(key)
	l.note(err)
	for i := range list {
		l.names[list[i].name] = true
		if list[i].kind == storeMemory {
			l.note(l.readState(&list[i]))
		}
	}
	sessions := make(map[uint64]*legacySession)
	for i := range l.state.sessions {
		sessions[l.state.sessions[i].inode] = &l.state.sessions[i]
	}
	for i := range list {
		left := &list[i]
		switch {
		case left.kind == storeMemory:
		case left.kind == storeProbe, left.kind == storeListener && l.listener != nil:
			_ = left.file.Close() // A process was killed; systemd keeps a listener once.
		case left.kind == storeListener:
			l.listener = left
		default:
			conn, err := left.conn()
			if l.note(err); err == nil {
				l.conns = append(l.conns, legacyConn{conn: conn, kind: left.kind, session: sessions[left.inode]})
			}
		}
	}
	return l
}

func (l *legacy) note(err error) {
	if err != nil {
		l.errs = append(l.errs, err)
	}
}

func (l *legacy) readState(left *stored) (err error) {
	defer left.file.Close()
	info, err := left.file.Stat()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.NewSectionReader(left.file, 0, info.Size()))
	if err == nil {
		l.state, err = parseLegacy(data)
	}
	return err
}

// takeListener returns the listener that an earlier process has left, if whoever connects to the address of spec still
// comes to it. Otherwise, or if the Reader has one, it is spare. After an error it may be called again.
func (l *legacy) takeListener(spec listenSpec, needed bool) (listener net.Listener, file *socketFile, err error) {
	if left := l.listener; left != nil {
		l.listener = nil
		l.bound = left.bound
		if l.spare, err = left.listener(); err != nil {
			l.spare = nil
			l.note(err)
		}
	}
	if l.spare == nil || !needed {
		return nil, nil, nil
	}
	listener = l.spare
	same := l.bound.address == spec.address.hash() || spec.address.matches(listener.Addr())
	if !same {
		return nil, nil, nil
	}
	if spec.address.isFile() {
		if file, err = (fileIdentity{device: l.bound.device, inode: l.bound.inode}).find(spec); file == nil || err != nil {
			return nil, nil, err
		}
	}
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	l.spare = nil
	return listener, file, nil
}

// forgetStored has systemd forget what was taken, once the Reader listens: if that failed, another process could
// still take it.
func (l *legacy) forgetStored() {
	if l == nil {
		return
	}
	for name := range l.names {
		l.note(removeStored(name))
	}
}

// adopt goes on with what an earlier process has left, before anybody else is accepted.
func (s *server) adopt(l *legacy) {
	if l == nil {
		return
	}
	for _, err := range l.errs {
		s.report(opHandOver, s.cfg.where, err)
	}
	s.writers.restore(l.state.writers, time.Now())
	for i := range l.conns {
		left := &l.conns[i]
		if left.kind == storeSession && left.session == nil {
			s.report(opHandOver, s.cfg.where, fmt.Errorf("%w: no entry for a session; connection closed", errLegacy))
			_ = left.conn.Close() // Its writer sends again what was not acknowledged.
			continue
		}
		s.counts.takenOver.Add(1)
		s.admit(left.conn, left)
	}
	if l.spare != nil {
		s.report(opHandOver, s.cfg.where, fmt.Errorf("the listener at %v is not the one of %s any more, and is closed", l.spare.Addr(), s.cfg.where))
		s.empty(l.spare)
	}
}

// empty serves who waits in a listener, and closes it.
func (s *server) empty(listener net.Listener) {
	if unix, ok := listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
		_ = shutListener(unix) // If it cannot be shut, who comes later is closed with it.
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

// reclaim makes a connection that an earlier process has left the one that speaks for its writer, before any other can.
func (c *stream) reclaim(left *legacySession) {
	c.legacy = left
	c.fenced = make(chan struct{})
	key := writerKey{who: c.peer.identity(), writer: left.writer.key.writer}
	c.claim, c.stale = c.server.writers.reclaim(key, left.writer, c.fence)
}

// resume goes on with its session. It says no if that is not possible.
func (c *stream) resume() bool {
	left := c.legacy
	if c.stale != nil {
		c.server.report(opSession, c.where(), c.stale)
		return false
	}
	c.writer = left.writer.key.writer
	c.tried = attempts{message: left.writer.handled + 1, count: left.writer.failures}
	c.beginSession(left.writer.handled, left.writer.repeats, left.beat, left.silence)
	if left.limit > c.server.cfg.in.maxMessageSize {
		c.in.requestClose(endOrderly) // Its next welcome tells the new limit.
	}
	return true
}
