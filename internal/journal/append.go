// SPDX-License-Identifier: Apache-2.0

package journal

// This file writes messages: the first to come writes for all who wait.

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/segment"
)

// maxGroup is the size in bytes from which a group takes no more. One Append may be larger.
const maxGroup = 1 << 20

// groupLimit is maxGroup of a Log: what is written together fits into one segment, and below each bound that one
// message does.
func (l *Log) groupLimit() int { return int(min(maxGroup, l.config.SegmentSize-segment.HeaderSize)) }

// maxSpare is how many groups are kept for reuse: one is written while the next one forms.
const maxSpare = 2

// A group is the messages that are written as one batch. Log.mu guards it until its leader takes it.
type group struct {
	b     []byte // Room for the header of the batch, and the frames.
	count int
	done  sync.WaitGroup // Of its leader, who sets first and err.
	first uint64
	err   error
	users int // How many calls of Append still look at it. Log.mu guards it.
}

// Append writes count frames as one: all are in the log, or none. It returns the number of the first.
// It waits for the disk, never for the reader. The caller keeps frames. The error is ErrFull if there
// is no room, ErrClosed, or that of the disk.
func (l *Log) Append(frames []byte, count int) (first uint64, err error) {
	switch {
	case count == 0 && len(frames) == 0:
		return 0, nil
	case count <= 0 || len(frames) < count || len(frames) > segment.MaxFrames:
		return 0, fmt.Errorf("udsipc: %d messages in %d bytes of frames (at most %d)", count, len(frames), segment.MaxFrames)
	}
	l.mu.Lock()
	g, leads := l.group, false
	if g == nil || len(g.b)+len(frames) > l.groupLimit() {
		g, leads = l.newGroupLocked(len(frames)), true
		l.group = g
	}
	before := uint64(g.count)
	g.b, g.count, g.users = append(g.b, frames...), g.count+count, g.users+1
	l.mu.Unlock()
	if leads {
		l.lead(g)
	} else {
		g.done.Wait()
	}
	if first, err = g.first+before, g.err; err != nil {
		first = 0
	}
	l.leave(g)
	return first, err
}

// newGroupLocked returns an empty group with room for n bytes of frames.
func (l *Log) newGroupLocked(n int) (g *group) {
	if last := len(l.spare) - 1; last >= 0 {
		g, l.spare = l.spare[last], l.spare[:last]
		g.b, g.count, g.first, g.err = g.b[:segment.BatchHeaderSize], 0, 0, nil
	} else {
		g = &group{b: make([]byte, segment.BatchHeaderSize, segment.BatchHeaderSize+n)}
	}
	g.done.Add(1)
	return g
}

// leave ends the use of a group. The last one to leave keeps it for reuse, until the log is idle.
func (l *Log) leave(g *group) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g.users--; g.users == 0 && cap(g.b) <= maxGroup*3/2 && len(l.spare) < maxSpare && !l.stopped {
		l.spare = append(l.spare, g)
		l.startTimerLocked()
	}
}

// lead waits for its turn to write and writes a group. Others join it until then.
func (l *Log) lead(g *group) {
	l.io.Lock()
	defer l.io.Unlock()
	if l.config.Sync == 0 {
		l.gather(g)
	}
	l.mu.Lock()
	if l.group == g {
		l.group = nil
	}
	l.mu.Unlock()
	g.err = l.commitWithRoom(g)
	g.done.Done()
}

// gather lets those join a group who are about to: the callers of the group before, whom its sync has just woken.
// Without it two groups take turns, each with half of the callers and a sync of its own.
func (l *Log) gather(g *group) {
	const rounds = 8
	users := 0
	for range rounds {
		l.mu.Lock()
		more := g.users > users && l.group == g
		users = g.users
		l.mu.Unlock()
		if !more {
			return
		}
		runtime.Gosched()
	}
}

// commit writes a group, syncs it if it must be, and publishes it. The caller holds io.
func (l *Log) commit(g *group) error {
	if l.closed || l.sealed {
		return ErrClosed
	}
	now := l.config.Now()
	p, err := l.ready(int64(len(g.b)), now)
	if err != nil {
		return err
	}
	g.first = l.next
	segment.SealBatch(g.b, l.writer, g.first, g.count)
	if _, err := p.file.WriteAt(g.b, p.size); err != nil {
		l.cut(p)
		return asFull(fmt.Errorf("writing %d messages to the spool: %w", g.count, err))
	}
	if l.config.Sync == 0 {
		if err := l.syncBatch(g, p); err != nil {
			return err
		}
	}
	// The reader sees the bytes and the numbers at once: a batch behind the end is none.
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = g.first + uint64(g.count)
	if l.config.Sync == 0 {
		p = l.segments[len(l.segments)-1] // A repair has written the group to another one.
		p.synced, p.syncedEnd = p.size+int64(len(g.b)), l.next
	} else {
		l.startTimerLocked()
	}
	p.size += int64(len(g.b))
	if p.end == p.first {
		p.begun = now
	}
	p.end, p.modified = l.next, now
	l.counts.Accepted += uint64(g.count)
	l.wakeLocked()
	return nil
}

// cut removes what was written behind the whole batches of a segment. If that fails, nothing is appended
// to the segment any more.
func (l *Log) cut(p *part) {
	if err := p.file.Truncate(p.size); err == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active = nil
	l.start++ // The name of the next segment is another one, even if this one has no batch.
}

// ready returns the segment that takes n more bytes. Mostly it is the active one, and one look tells. The caller
// holds io.
func (l *Log) ready(n int64, now time.Time) (*part, error) {
	l.mu.Lock()
	p := l.active
	plain := p != nil && l.failure == nil && l.fits(p, n) && !l.tooOld(l.segments[0], now) && !l.isOver(p, now) &&
		l.bytesLocked()+n <= l.config.MaxBytes
	l.mu.Unlock()
	if plain && l.free.takes(n, now) {
		return p, nil
	}
	if err := l.repair(nil); err != nil {
		return nil, err
	}
	p, err := l.makeRoom(n, now)
	return p, asFull(err)
}

// fits reports whether a segment takes n more bytes. An empty one takes any number.
func (l *Log) fits(p *part, n int64) bool {
	return p.size+n <= l.config.SegmentSize || p.size <= segment.HeaderSize
}

// ageSteps is how many segments are begun while a message may wait: all of one expire together.
const ageSteps = 8

// isOver reports whether a segment takes no more because its first message is old.
func (l *Log) isOver(p *part, now time.Time) bool {
	return l.config.MaxAge > 0 && p.end > p.first && now.Sub(p.begun) > l.config.MaxAge/ageSteps
}

// makeRoom returns the active segment if it takes n more bytes, else a new one.
func (l *Log) makeRoom(n int64, now time.Time) (*part, error) {
	l.expireFinished(now)
	l.mu.Lock()
	if p := l.active; p != nil && l.isOver(p, now) {
		l.active = nil
	}
	p := l.active
	fits := p != nil && l.fits(p, n)
	l.mu.Unlock()
	if !fits {
		n += segment.HeaderSize
	}
	if err := l.checkBounds(n, now); err != nil {
		return nil, err
	}
	l.mu.Lock()
	fits = fits && l.active == p // Else it was dropped.
	l.mu.Unlock()
	if fits {
		return p, nil
	}
	return l.begin()
}

// asFull makes a full disk match ErrFull.
func asFull(err error) error {
	if errors.Is(err, disk.ErrFull) && !errors.Is(err, ErrFull) {
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}

// wakeLocked tells the reader that there is something to read.
func (l *Log) wakeLocked() {
	select {
	case l.arrived <- struct{}{}:
	default:
	}
}
