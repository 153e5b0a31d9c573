// SPDX-License-Identifier: Apache-2.0

package journal

// This file makes segments survive the machine.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
)

// lazily is how often the handled number is written down, where nothing else sets the time.
const lazily = time.Second

// Sync returns when all messages for which Append returned before are synced or handled. After Close it is
// ErrClosed if they are not.
func (l *Log) Sync() error {
	err := l.syncSegments()
	switch err {
	case nil:
		return l.syncNames()
	case ErrClosed:
		return err
	}
	l.io.Lock()
	defer l.io.Unlock()
	if l.closed {
		return err
	}
	if err := l.repair(nil); err != nil {
		return err
	}
	return l.syncNames()
}

// syncNames makes the names of segments survive the machine that begin has not synced.
func (l *Log) syncNames() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	unnamed := l.unnamed && !l.ended
	l.unnamed = false // One that is begun meanwhile sets it again.
	l.mu.Unlock()
	if !unnamed {
		return nil
	}
	err := l.disk.SyncNames()
	if err != nil {
		l.mu.Lock()
		l.unnamed = true
		l.mu.Unlock()
		return fmt.Errorf("syncing the names of the spool: %w", err)
	}
	return nil
}

// maxFiles is how many segments may be open until they are synced.
const maxFiles = 64

// boundFiles closes the files of finished segments that need no sync, from time to time, and syncs the others if they
// are too many. The caller holds io.
func (l *Log) boundFiles() {
	if l.files++; l.files < maxFiles {
		return
	}
	if l.config.Sync > 0 {
		l.syncSegments() // It closes what it has synced; an error is that of the next call.
	}
	l.syncing.Lock() // Else a file may be closed that is being synced.
	defer l.syncing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.files = 1
	for _, p := range l.segments {
		if p != l.active && (l.config.Sync < 0 || p.synced == p.size) {
			p.closeFile()
		}
	}
}

// startTimerLocked starts the timers for what has to be done in a while. Only a long interval of syncs has its own.
func (l *Log) startTimerLocked() {
	if l.stopped {
		return
	}
	after := l.config.Sync
	if after > lazily && l.syncTimer == nil {
		l.syncTimer = time.AfterFunc(after, l.tickSync)
	}
	if after <= 0 || after > lazily {
		after = lazily
	}
	if l.timer == nil {
		l.timer = time.AfterFunc(after, l.tick)
	}
}

// stopTimers stops the timers for good.
func (l *Log) stopTimers() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stopped = true
	for _, timer := range []*time.Timer{l.timer, l.syncTimer} {
		if timer != nil {
			timer.Stop()
		}
	}
}

// tick syncs and writes down what is handled. It runs in the timer's goroutine.
func (l *Log) tick() {
	l.mu.Lock()
	l.timer = nil
	if l.spareFrom == l.next {
		l.spare = nil // Idle.
	} else if l.spareFrom = l.next; len(l.spare) > 0 {
		l.startTimerLocked()
	}
	l.mu.Unlock()
	var err error
	if l.config.Sync > 0 && l.config.Sync <= lazily {
		err = l.Sync()
	}
	l.io.Lock()
	if !l.closed {
		l.saveHandled()
	}
	l.io.Unlock()
	l.tryAgain(err)
}

// tickSync is the part of tick that syncs, for an interval that is long.
func (l *Log) tickSync() {
	l.mu.Lock()
	l.syncTimer = nil
	l.mu.Unlock()
	l.tryAgain(l.Sync())
}

// tryAgain has what has failed done again, and tells of it.
func (l *Log) tryAgain(err error) {
	if err == nil {
		return
	}
	l.mu.Lock()
	l.startTimerLocked()
	l.mu.Unlock()
	if l.config.OnSyncError != nil {
		l.config.OnSyncError(err)
	}
}

// saveHandled writes down what is handled, if that changed. The caller holds io. An error costs nothing
// but messages that come again.
func (l *Log) saveHandled() {
	l.mu.Lock()
	handled := l.handled
	l.mu.Unlock()
	if handled != l.savedHandled && l.hints.writeHandled(handled) == nil {
		l.savedHandled = handled
	}
}

// syncSegments syncs what is not synced and not handled. The error is that of the first sync that has
// failed and is not repaired.
func (l *Log) syncSegments() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	var targets []target
	l.mu.Lock()
	for _, p := range l.segments {
		if !p.failed && p.synced < p.size && p.messages(l.unhandledLocked(p)) > 0 {
			targets = append(targets, target{p, p.file, p.size, p.end})
		}
	}
	if l.ended {
		defer l.mu.Unlock()
		if l.failure == nil && len(targets) > 0 {
			return ErrClosed
		}
		return l.failure
	}
	l.mu.Unlock()
	for _, t := range targets {
		l.syncPart(t)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failure
}

// A target is a part that is synced up to a size and a number.
type target struct {
	part *part
	file disk.File // Nil for a part that was found.
	size int64
	end  uint64
}

// syncPart syncs a part. The caller holds syncing, or nobody else has the Log.
func (l *Log) syncPart(t target) {
	began := time.Now()
	file, err := t.file, error(nil)
	if file == nil {
		if file, err = l.disk.Open(t.part.name); err == nil {
			defer file.Close()
		}
	}
	if err == nil {
		err = file.Sync()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.syncedLocked(t.part, t.size, t.end, time.Since(began), err)
}

// syncedLocked notes the end of a sync of a part up to a size and a number.
func (l *Log) syncedLocked(p *part, size int64, end uint64, took time.Duration, err error) {
	l.syncTimes.Add(took, 1)
	switch {
	case p.removed: // Its file may have been closed meanwhile.
	case err != nil:
		p.failed = true
		l.counts.SyncErrors++
		l.failure = fmt.Errorf("syncing the segment %s of the spool: %w", p.name, err)
	default:
		p.synced, p.syncedEnd = max(p.synced, size), max(p.syncedEnd, end)
		if p != l.active && p.synced == p.size {
			p.closeFile()
		}
	}
}

// syncBatch syncs the active segment with a group that was written and is not published. If the sync
// fails, the group is written again with all else. The caller holds io.
func (l *Log) syncBatch(g *group, p *part) error {
	l.syncing.Lock()
	began := time.Now()
	err := p.file.Sync()
	l.mu.Lock()
	l.syncedLocked(p, p.size, p.end, time.Since(began), err)
	l.mu.Unlock()
	l.syncing.Unlock()
	if err == nil {
		return nil
	}
	return asFull(l.repair(g))
}
