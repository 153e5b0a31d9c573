// SPDX-License-Identifier: Apache-2.0

package journal

// This file opens a log: what is left, under which identity the next messages are, and the end.

import (
	"fmt"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/segment"
)

// Open opens the log of a disk, which stays the caller's. It reads the headers of all segments and
// the whole of the newest one. Damage is no error: it is reported, and the rest is there. A link, or a
// file of another user, in the place of a file is disk.ErrUnsafe.
func Open(d disk.Disk, config Config) (*Log, Start, error) {
	l := &Log{disk: d, config: config.withDefaults(), arrived: make(chan struct{}, 1)}
	state, known, handled, err := l.hints.read(d)
	if err == nil {
		err = l.load(state, known, handled)
	}
	if err != nil {
		l.hints.close()
		return nil, Start{}, fmt.Errorf("opening the spool: %w", err)
	}
	l.start = max(l.start, state.Starts)
	if l.confirmed = state.Confirmed; !known || state.Confirmed >= state.Starts {
		l.confirmed = l.start // Without a proof that they are new, a reader may know all of them.
	}
	l.start++
	l.opened = l.start
	renewed := !l.goesOn(state, known)
	if !renewed {
		l.writer, l.next = state.Writer, max(state.Next, 1)
		if n := len(l.segments); n > 0 {
			l.next = max(l.next, l.segments[n-1].end)
		}
		if handled.Writer == l.writer {
			l.next = max(l.next, handled.Number+1)
		}
	} else {
		l.writer, l.next = l.config.NewWriter(), 1
	}
	l.handled, l.savedHandled = handled, handled
	if !renewed {
		// Without the state on the disk, another start could take numbers of this one for its own.
		renewed = l.saveState(false) != nil
	}
	if renewed {
		l.writer, l.next = l.config.NewWriter(), 1
		if err := l.saveState(false); err != nil && l.config.OnSyncError != nil {
			l.config.OnSyncError(err) // Without it, the next start has a new identity as well.
		}
	}
	l.free = freeSpace{disk: d, min: l.config.MinFree}
	l.noteSent()
	l.syncFound()
	l.mu.Lock() // The timer may run.
	taken := l.takeHandledLocked()
	for _, p := range l.segments {
		p.from = l.unhandledLocked(p)
	}
	l.counts.Found = l.waitingLocked(l.segments)
	if l.counts.Found > 0 {
		l.wakeLocked()
	}
	found := l.counts.Found
	l.mu.Unlock()
	l.discard(taken)
	return l, Start{l.writer, l.next, l.start, renewed, found}, nil
}

// goesOn reports whether the identity of the state is that of the next messages. It is after an orderly
// end, and after a kill in the same boot of the machine. A newest segment of another writer, or with an
// end that no kill leaves, tells that the state is not the last one, or that numbers may be used that
// nothing tells of.
func (l *Log) goesOn(state segment.State, known bool) bool {
	var newest *part
	if n := len(l.segments); n > 0 {
		newest = l.segments[n-1]
	}
	switch {
	case !known, newest != nil && newest.writer != state.Writer:
		return false
	case state.Orderly:
		return true
	case state.Boot != l.config.Boot, state.Boot == [16]byte{}:
		return false
	}
	return !l.lostEnd && (newest == nil || !newest.damaged)
}

// syncFound makes the newest segment that was found survive the machine: what is in it may be delivered
// now, and its numbers are used. What a former process has left unsynced in the others is synced as new
// messages are.
func (l *Log) syncFound() {
	n := len(l.segments)
	if n == 0 {
		return
	}
	if l.unnamed = true; l.config.Sync < 0 {
		return // Sync does all, if somebody calls it.
	}
	newest := l.segments[n-1]
	if file, err := l.disk.Open(newest.name); err == nil {
		newest.file = file
		l.syncPart(target{newest, file, newest.size, newest.end})
	}
	if err := l.syncNames(); err != nil && l.config.OnSyncError != nil {
		l.config.OnSyncError(err)
	}
	if n > 1 {
		l.mu.Lock()
		l.startTimerLocked()
		l.mu.Unlock()
	}
}

// saveState writes down where this start is. The caller holds io, or nobody else has the Log.
func (l *Log) saveState(orderly bool) error {
	err := l.hints.writeState(segment.State{Writer: l.writer, Next: l.next, Starts: l.start,
		Boot: l.config.Boot, Orderly: orderly, Confirmed: l.confirmedNow()})
	l.stateSaved = err == nil
	return err
}

// confirmedNow returns the last start of whose segments a reader may know messages. The caller holds io.
func (l *Log) confirmedNow() uint32 {
	if l.welcomed == l.writer {
		return l.start // With those of all repairs.
	}
	return l.confirmed
}

// Close syncs, unless Config.Sync is negative, and writes down where the next start goes on. Every later
// Append is ErrClosed. Next must not run. The error tells what may not survive the machine.
func (l *Log) Close() error {
	var err error
	if l.config.Sync >= 0 {
		err = l.Sync()
	}
	l.io.Lock()
	defer l.io.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	l.stopTimers()
	if err == nil && l.config.Sync >= 0 {
		err = l.syncSegments() // What came in between.
	}
	l.saveHandled()
	if err == nil {
		err = l.checkLeft()
	}
	if err == nil {
		err = l.saveState(true)
	}
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
	for _, p := range l.segments {
		p.closeFile()
	}
	l.cursor.close()
	l.hints.close()
	return err
}
