// SPDX-License-Identifier: Apache-2.0

package journal

// This file writes messages: the first to come writes for all who wait.

import (
	"errors"
	"fmt"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/segment"
)

// maxGroup is the size in bytes from which a group takes no more. One Append may be larger.
const maxGroup = 1 << 20

// A group is the messages that are written as one batch. Log.mu guards it until its leader takes it.
type group struct {
	b     []byte // Room for the header of the batch, and the frames.
	count int
	done  chan struct{} // Closed when first and err are set.
	first uint64
	err   error
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
	if g == nil || len(g.b)+len(frames) > maxGroup {
		g, leads = &group{b: make([]byte, segment.BatchHeaderSize, segment.BatchHeaderSize+len(frames)),
			done: make(chan struct{})}, true
		l.group = g
	}
	before := uint64(g.count)
	g.b, g.count = append(g.b, frames...), g.count+count
	l.mu.Unlock()
	if leads {
		l.lead(g)
	} else {
		<-g.done
	}
	if g.err != nil {
		return 0, g.err
	}
	return g.first + before, nil
}

// lead waits for its turn to write and writes a group. Others join it until then.
func (l *Log) lead(g *group) {
	l.io.Lock()
	defer l.io.Unlock()
	l.mu.Lock()
	if l.group == g {
		l.group = nil
	}
	l.mu.Unlock()
	g.err = l.commit(g)
	if g.err != nil {
		l.mu.Lock()
		l.counts.Refused += uint64(g.count)
		l.mu.Unlock()
	}
	close(g.done)
}

// commit writes a group, syncs it if it must be, and publishes it. The caller holds io.
func (l *Log) commit(g *group) error {
	if l.closed {
		return ErrClosed
	}
	if err := l.repair(nil); err != nil {
		return err
	}
	p, err := l.makeRoom(int64(len(g.b)))
	if err != nil {
		return asFull(err)
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
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.config.Sync == 0 {
		p = l.segments[len(l.segments)-1] // A repair has written the group to another one.
	} else {
		p.size += int64(len(g.b))
		l.startTimerLocked()
	}
	l.next = g.first + uint64(g.count)
	p.end, p.modified = l.next, l.config.Now()
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

// makeRoom returns the active segment if it takes n more bytes, else a new one.
func (l *Log) makeRoom(n int64) (*part, error) {
	l.Expire()
	l.mu.Lock()
	if p := l.active; p != nil && p.end > p.first && l.tooOld(p) {
		l.active = nil // It expires when this message has begun another one.
	}
	p := l.active
	fits := p != nil && (p.size+n <= l.config.SegmentSize || p.size <= segment.HeaderSize)
	l.mu.Unlock()
	if !fits {
		n += segment.HeaderSize
	}
	if err := l.checkBounds(n); err != nil {
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

// begin begins a new segment.
func (l *Log) begin() (*part, error) {
	p, err := l.create(l.writer, l.start, l.next, "")
	if err == nil && l.config.Sync >= 0 {
		err = l.disk.SyncNames()
	}
	l.mu.Lock()
	if err != nil {
		// What is left of this one may come back, and is taken for where the segments before it end.
		l.start++
		l.active = nil
		l.mu.Unlock()
		if p != nil {
			l.abandon(p)
		}
		return nil, err
	}
	former := l.active
	l.segments, l.active = append(l.segments, p), p
	if former != nil && l.config.Sync < 0 {
		former.closeFile()
	}
	handled := l.takeHandledLocked()
	l.mu.Unlock()
	l.discard(handled)
	return p, nil
}

// abandon removes a segment that was made and is not used.
func (l *Log) abandon(p *part) {
	p.file.Close()
	l.disk.Remove(p.name) // If it stays, it has nothing that another one has not.
}

// create makes the file of a segment, with a suffix behind its name.
func (l *Log) create(writer segment.WriterID, start uint32, first uint64, suffix string) (*part, error) {
	p := &part{name: segment.Name(start, first), writer: writer, first: first, end: first,
		size: segment.HeaderSize, modified: l.config.Now()}
	var err error
	if p.file, err = l.disk.Create(p.name + suffix); err != nil {
		return nil, fmt.Errorf("making a segment of the spool: %w", err)
	}
	header := segment.AppendHeader(nil, segment.Header{Writer: writer, First: first})
	if _, err = p.file.WriteAt(header, 0); err != nil {
		p.file.Close()
		l.disk.Remove(p.name + suffix)
		return nil, fmt.Errorf("making a segment of the spool: %w", err)
	}
	return p, nil
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
