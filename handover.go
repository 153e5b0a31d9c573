// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the restart that nobody notices: a Reader leaves its listener, its open connections and what it
// knows of its writers with systemd, and the Reader of the next process takes them. A connection is left on the
// boundary of a message, so that its writer sees nothing but a pause.

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"
)

// A legacy is what an earlier process has left.
type legacy struct {
	listener net.Listener
	bound    fileIdentity // The file that the listener is bound to.
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

// HandOver is Stop for a process that another one is to follow at once: under systemd, with
// FileDescriptorStoreMax= in the service (systemd.service(5)), the listener, unless systemd has made it, and the
// connections are left with systemd, and the Reader that the next process starts with the same name
// (WithSystemdName, or else the address) goes on with them. Writers keep their connections; nothing is
// lost, repeated or reordered, and with acknowledgements the next Reader knows all that this one knew.
//
// Each connection is read to the end of the message that it is in. One that takes longer than a second for that,
// one with TLS, and whatever cannot be left, is ended as Stop does, and reported with OpHandOver. Without systemd
// HandOver is Stop.
//
// Call it only where a next process comes: what nobody takes is closed by systemd, and of plain writers that is
// a possible loss, which they report. If the name changes from one version to the next, nobody reads the connections
// any more until they are closed: PassedDescriptors lists them. RestartKillSignal= (systemd.kill(5)) tells a restart from a stop.
// FileDescriptorStoreMax= must have room for all connections and two more; systemd closes what it has no room
// for, and tells the limit since version 254 only.
func (r *Reader) HandOver(ctx context.Context) error {
	if err := r.prepareHandOver(); err != nil {
		r.report(OpHandOver, r.cfg.where, err)
	}
	if err := r.Stop(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return opError(OpHandOver, r.cfg.where, r.handOverErr)
}

// prepareHandOver leaves the listener with systemd. If that fails, Stop will be a mere stop.
func (r *Reader) prepareHandOver() error {
	r.mu.Lock()
	phase, listener, passed, file := r.phase, r.listener, r.passed != nil, r.file
	r.mu.Unlock()
	_, single := listener.(*passedConnection)
	switch {
	case phase != phaseStarted, single:
		return nil
	case r.cfg.withoutSystemd || r.cfg.listener != nil:
		return fmt.Errorf("neither with WithoutSystemd nor with WithListener")
	}
	if _, err := notifyAddress(); err != nil {
		return err
	}
	var kind string
	if !passed {
		what, ok := listener.(descriptor)
		if !ok {
			return fmt.Errorf("a listener without a descriptor cannot be left with systemd")
		}
		kind = listenerKind(file.identity())
		if err := store(kind, r.storeKey(), what); err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.handingOver = r.phase == phaseStarted
	late := !r.handingOver
	r.mu.Unlock()
	if late && !passed {
		return notify(nil, notifyRemove, "FDNAME="+storeName(kind, r.storeKey()))
	}
	return nil
}

// storeKey names what this Reader leaves and takes.
func (r *Reader) storeKey() string {
	if r.cfg.systemdName != "" {
		return r.cfg.systemdName
	}
	return r.cfg.address.String()
}

// handOver leaves a connection that is at rest with systemd. It says no if that is not possible: the connection
// is ended gracefully instead.
func (c *readerConn) handOver() bool {
	r, in := c.reader, c.in
	kind := storePlain
	switch {
	case in.session != nil:
		kind = storeSession
	case in.untouched():
		kind = storeFresh
	}
	in.tellHandled()
	what := in.conn.(descriptor) // requestHandOver has seen to it.
	inode, err := inodeOf(what)
	if err == nil {
		err = store(kind, r.storeKey(), what)
	}
	if err != nil {
		r.report(OpHandOver, c.where(), err)
		in.requestClose()
		return false
	}
	r.counts.handedOver.Add(1)
	if kind == storeSession {
		session := legacySession{inode: inode, writer: c.delivery.Writer, limit: in.limit, silence: in.silence, beat: in.session.beat}
		r.mu.Lock()
		r.left = append(r.left, session)
		r.mu.Unlock()
	}
	return true
}

// finishHandOver leaves what is known beside the connections, and waits until systemd has it all.
func (r *Reader) finishHandOver() {
	r.mu.Lock()
	state := legacyState{sessions: r.left}
	r.mu.Unlock()
	state.writers = r.writers.export(time.Now())
	err := r.leaveState(&state)
	err = firstError(err, barrier())
	r.mu.Lock()
	r.handOverErr = err
	r.mu.Unlock()
}

func (r *Reader) leaveState(state *legacyState) error {
	file, err := memoryFile(storePrefix+storeMemory, state.bytes())
	if err != nil {
		return err
	}
	return firstError(store(storeMemory, r.storeKey(), file), file.Close())
}

// takeLegacy takes what an earlier process has left for key.
func takeLegacy(key string) *legacy {
	l := &legacy{}
	list, err := takeStored(key)
	l.note(err)
	var sessions = map[uint64]*legacySession{}
	for i := range list {
		if list[i].kind == storeMemory {
			l.note(l.readState(&list[i]))
		}
	}
	for i := range l.state.sessions {
		sessions[l.state.sessions[i].inode] = &l.state.sessions[i]
	}
	for i := range list {
		left := &list[i]
		switch left.kind {
		case storeMemory:
		case storeListener:
			l.bound = left.bound
			l.listener, err = left.listener()
			l.note(err)
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

// takeListener returns the listener that an earlier process has left, if whoever connects to the address
// still comes to it.
func (l *legacy) takeListener(cfg *readerConfig) (net.Listener, *socketFile, error) {
	if l.listener == nil || !cfg.address.file() {
		return l.listener, nil, nil
	}
	file, err := l.bound.find(cfg)
	if file == nil || err != nil {
		return nil, nil, firstError(err, l.listener.Close())
	}
	if unix, ok := l.listener.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(false)
	}
	return l.listener, file, nil
}

// adopt goes on with the connections that an earlier process has left.
func (r *Reader) adopt(l *legacy) {
	if l == nil {
		return
	}
	for _, err := range l.errs {
		r.report(OpHandOver, r.cfg.where, err)
	}
	r.writers.restore(l.state.writers, time.Now())
	for i := range l.conns {
		left := &l.conns[i]
		if left.kind == storeSession && left.session == nil {
			r.report(OpHandOver, r.cfg.where, fmt.Errorf("%w: a connection with acknowledgements is not in it, and is closed", errLegacy))
			_ = left.conn.Close() // Its writer sends again what was not acknowledged.
			continue
		}
		r.counts.takenOver.Add(1)
		r.admit(left.conn, left)
	}
}

// resume goes on with a session that an earlier process has begun. It says no if its writer has connected
// again since, or is another one now.
func (c *readerConn) resume(s *legacySession) bool {
	c.fenced = make(chan struct{})
	claim, handled, repeats, err := c.reader.writers.reclaim(writerKey{who: c.delivery.Peer.who(), id: s.writer}, c.fence)
	if err != nil {
		c.reader.report(OpSession, c.where(), err)
		return false
	}
	c.claim = claim
	c.delivery.Writer = s.writer
	c.beginSession(handled, repeats, s.beat, s.silence)
	if s.limit > c.in.limit {
		c.in.requestClose() // Its next welcome tells the new limit.
	}
	return true
}
