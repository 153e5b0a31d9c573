// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the restart that nobody notices, from the side of the process that ends: its listener, its open
// connections and what it knows of its writers are left with systemd. A connection is left on the boundary of a
// message, so that its writer sees nothing but a pause. takeover.go is the other side.

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// reservedSlots are for the memory of the writers and for the probe.
const reservedSlots = 2

// HandOver is Stop for a process that another one is to follow at once: under systemd, with
// FileDescriptorStoreMax= in the service (systemd.service(5)), the listener, unless systemd has made it, and the
// connections are left with systemd, and the Reader that the next process starts with the same name
// (WithSystemdName, or else the address) goes on with them. Writers keep their connections; nothing is
// lost, repeated or reordered, and with acknowledgements the next Reader knows all that this one knew.
//
// Each connection is read to the end of the message that it is in. One whose peer takes longer than a second for that,
// one with TLS, and one that the store has no room for, is ended as Stop does, and reported with OpHandOver. The
// others stay open here until systemd has shown that it keeps them all; if it does not, because there is no store or
// it is too small, they are ended as Stop does as well, and so without systemd at all: nothing is lost by trying.
//
// Call it only where a next process comes: what nobody takes is closed by systemd, and of plain writers that is
// a possible loss, which they report. If the name changes from one version to the next, nobody reads the connections
// any more until they are closed: PassedDescriptors lists them. RestartKillSignal= (systemd.kill(5)) tells a restart from
// a stop. FileDescriptorStoreMax= and LimitNOFILE= must have room for all connections and four more.
func (r *Reader) HandOver(ctx context.Context) error {
	if err := r.prepareHandOver(); err != nil {
		r.report(opHandOver, r.cfg.where, err)
	}
	return r.Stop(ctx)
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
	case r.cfg.withoutSystemd || r.cfg.listener != nil || r.conversations != nil:
		return errors.New("neither with WithoutSystemd nor with WithListener")
	}
	if _, err := notifyAddress(); err != nil {
		return err
	}
	if err := takeSlots(reservedSlots); err != nil {
		return err
	}
	var name string
	if !passed {
		what, ok := listener.(descriptor)
		if !ok {
			return errors.New("a listener without a descriptor cannot be left with systemd")
		}
		name = storeName(listenerKind(boundTo(file.identity(), r.cfg.address)), r.storeKey())
		if err := r.leave(name, what); err != nil {
			slots.Add(-reservedSlots)
			return err
		}
	}
	r.mu.Lock()
	r.handingOver = r.phase == phaseStarted
	late := !r.handingOver
	r.mu.Unlock()
	if late {
		r.forgetLeft()
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

// leave leaves a descriptor with systemd, if there is room.
func (r *Reader) leave(name string, what descriptor) error {
	if err := takeSlots(1); err != nil {
		return err
	}
	if err := store(name, what); err != nil {
		slots.Add(-1)
		return err
	}
	r.noteLeft(name)
	return nil
}

func (r *Reader) noteLeft(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.left == nil {
		r.left = make(map[string]int)
	}
	r.left[name]++
}

// forgetLeft has systemd forget what was left, what is known of the writers included: that is wrong with the next
// message that is handled here.
func (r *Reader) forgetLeft() {
	r.mu.Lock()
	left := r.left
	r.left = nil
	r.mu.Unlock()
	slots.Add(-reservedSlots)
	for name, n := range left {
		if name != storeName(storeMemory, r.storeKey()) { // That has a reserved slot.
			slots.Add(-int64(n))
		}
		slotNames.Add(-int64(n * (len(name) + 1)))
		_ = notify(nil, notifyRemove, "FDNAME="+name) // If systemd cannot be told, it knows of nothing either.
	}
}

// handOver leaves a connection that is at rest with systemd, and waits until it is certain that it is kept. It says
// no if it is not: the connection is ended gracefully instead.
func (c *readerConn) handOver() bool {
	r, in := c.reader, c.in
	kind := storePlain
	switch {
	case c.acks != nil:
		kind = storeSession
	case in.untouched():
		kind = storeFresh
	}
	in.tellHandled()
	what := in.handOverSocket()
	inode, err := inodeOf(what)
	if err == nil {
		err = r.leave(storeName(kind, r.storeKey()), what)
	}
	if err != nil {
		in.refuseHandOver(err)
		return false
	}
	if !c.awaitVerdict(c.rest(inode)) {
		in.refuseHandOver(nil)
		return false
	}
	r.counts.handedOver.Add(1)
	return true
}

// rest is what the next process has to know of a session; nil without one.
func (c *readerConn) rest(inode uint64) *legacySession {
	if c.acks == nil {
		return nil
	}
	limit, silence, beat := c.acks.agreed()
	handled := c.acks.handled()
	return &legacySession{
		inode: inode, writer: c.claim.is(handled, c.tried.of(handled+1)), limit: limit, silence: silence, beat: beat,
	}
}

// awaitVerdict is called by a connection at rest. It returns whether systemd keeps everything. Only settleHandOver
// decides that, also after a Stop that does not wait: a connection that is told its end must not be with systemd.
//
// A newer connection of the same writer cannot come to rest before this one has let go of the writer. Then this one
// ends; the next process closes it, because nothing is known of its session.
func (c *readerConn) awaitVerdict(session *legacySession) bool {
	r := c.reader
	r.mu.Lock()
	r.resting++
	if session != nil {
		r.restingSessions[c] = *session
	}
	r.mu.Unlock()
	r.signalRest()
	fenced := false
	select {
	case <-r.verdict:
	case <-c.fenced: // nil without a session.
		fenced = true
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.resting--
	if fenced {
		delete(r.restingSessions, c)
	}
	return r.kept && !fenced
}

// signalRest has whoever waits look again whether all connections are at rest.
func (r *Reader) signalRest() {
	select {
	case r.rested <- struct{}{}:
	default:
	}
}

func (r *Reader) allAtRest() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.resting == len(r.conns)
}

// settleHandOver waits until every connection is at rest or has ended, leaves what is known beside them, and makes
// sure that systemd has it all. If it has not, this becomes a mere Stop.
func (r *Reader) settleHandOver() {
	for !r.allAtRest() && r.handling.Err() == nil {
		select {
		case <-r.rested:
		case <-r.handling.Done():
		}
	}
	err := r.handling.Err()
	if err == nil {
		err = r.leaveState()
	}
	if err == nil {
		err = probeStore(storeName(storeProbe, r.storeKey()))
	}
	if err == nil {
		_ = r.listener.Close() // systemd has it.
		r.file.leave()
	} else {
		r.report(opHandOver, r.cfg.where, fmt.Errorf("ending as Stop does: %w", err))
		r.forgetLeft()
		r.stopAfterAll()
	}
	r.mu.Lock()
	r.kept = err == nil
	r.mu.Unlock()
	close(r.verdict)
}

// stopAfterAll ends the listener as Stop does.
func (r *Reader) stopAfterAll() {
	r.mu.Lock()
	r.handingOver = false
	err := r.quiesceLocked()
	r.mu.Unlock()
	if err != nil {
		r.report(opStop, r.cfg.where, err)
	}
	_ = r.accept() // Those in the backlog; it is stopping.
	_ = r.listener.Close()
}

func (r *Reader) leaveState() error {
	r.mu.Lock()
	state := legacyState{sessions: slices.Collect(maps.Values(r.restingSessions))}
	r.mu.Unlock()
	state.writers = r.writers.export(time.Now())
	file, err := memoryFile(storePrefix+storeMemory, state.bytes())
	if err != nil {
		return err
	}
	defer file.Close()
	name := storeName(storeMemory, r.storeKey())
	if err := store(name, file); err != nil {
		return err
	}
	r.noteLeft(name)
	return nil
}
