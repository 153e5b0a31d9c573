// SPDX-License-Identifier: Apache-2.0

package journal

// This file gives up an identity whose numbers other messages have: those that were written after the backup
// that this spool was restored from, or by a process that has a copy of it.

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/internal/wire"
)

// GiveUp gives up the identity of a writer because another process has it as well: a copy of the spool. number is
// what the reader knows as handled, of both. What earlier starts have sent is passed over up to it; the rest
// is written again as by Welcomed, although some of it may be handled. Next must not run.
func (l *Log) GiveUp(writer segment.WriterID, number uint64) error {
	l.io.Lock()
	defer l.io.Unlock()
	if l.closed {
		return ErrClosed
	}
	l.mu.Lock()
	limit := min(number, math.MaxInt64) + 1
	for _, p := range l.segments {
		if p.writer == writer && (p.start >= l.opened || p.start > l.confirmed) {
			limit = min(limit, p.first)
		}
	}
	owns := l.ownsLocked(writer)
	l.mu.Unlock()
	if !owns {
		return nil
	}
	return l.giveUp(writer, limit)
}

// giveUp gives up the identity of a writer, and of all that come after it. Its messages before the limit are known
// to the reader, the others that are not handled get a new one. The caller holds io.
func (l *Log) giveUp(writer segment.WriterID, limit uint64) error {
	if err := l.repair(nil); err != nil {
		return err
	}
	if limit > 1 {
		l.passOver(writer, limit-1)
	}
	l.mu.Lock()
	var old []renewed
	for _, p := range l.segments {
		if from := l.unhandledLocked(p); len(old) > 0 || p.writer == writer && from < p.end {
			old = append(old, renewed{p, from})
		}
	}
	l.mu.Unlock()
	if err := l.askForCopies(old); err != nil {
		return err
	}
	l.mu.Lock()
	l.start++ // The names of the copies come behind all others.
	l.mu.Unlock()
	renewal := renewal{writer: l.config.NewWriter(), next: 1}
	err := l.hints.writeState(segment.State{Writer: renewal.writer, Next: 1, Starts: l.start,
		Boot: l.config.Boot, Confirmed: l.confirmed})
	if err == nil {
		err = l.copyAll(&renewal, old)
	}
	if err != nil {
		for _, c := range renewal.copies {
			c.part.file.Close()
			l.disk.Remove(c.part.name + newSuffix)
			l.disk.Remove(c.part.name)
		}
		return fmt.Errorf("giving up the identity of a copy of the spool: %w", asFull(err))
	}
	l.publish(renewal, writer)
	return nil
}

// askForCopies returns ErrFull if the file system has no room for copies. Else each attempt would write as much as
// there is until it is full.
func (l *Log) askForCopies(old []renewed) error {
	var need uint64
	for _, p := range old {
		if p.from == p.first && p.from < p.end {
			need += uint64(p.size)
		}
	}
	if free, err := l.disk.Free(); err == nil && free < need {
		return fmt.Errorf("%w: giving up the identity of a copy of the spool needs %d bytes, the file system has %d: "+
			"make room, nothing is sent until then", ErrFull, need, free)
	}
	return nil
}

// A renewed is a segment of which the messages from a number on get a new identity.
type renewed struct {
	*part
	from uint64
}

// A renewal is messages under a new identity that are not published yet.
type renewal struct {
	writer segment.WriterID
	next   uint64
	old    []renewed // Beside copies.
	copies []copied
}

// copyAll writes the messages of segments again under the new identity, and syncs them. They have their
// names when all of them are there. Gaps in the numbers stay as wide as they are.
func (l *Log) copyAll(r *renewal, old []renewed) error {
	for _, p := range old {
		if p.from == p.end {
			continue
		}
		to, err := l.create(r.writer, l.start, r.next, newSuffix)
		if err != nil {
			return err
		}
		r.old = append(r.old, p)
		r.copies = append(r.copies, copied{old: p.part, part: to})
		c := &r.copies[len(r.copies)-1]
		to.begun, to.modified, to.end = p.begun, p.modified, r.next+(p.end-p.from)
		if c.damage, err = l.copyBatches(p, to); err != nil {
			return err
		}
		if err := to.file.Sync(); err != nil {
			return err
		}
		to.synced, to.syncedEnd, r.next = to.size, to.end, to.end
	}
	for _, c := range r.copies {
		if err := l.disk.Rename(c.part.name+newSuffix, c.part.name); err != nil {
			return err
		}
	}
	return l.disk.SyncNames()
}

// copyBatches writes the messages of a segment to another one with other numbers.
func (l *Log) copyBatches(p renewed, to *part) (found []Damage, err error) {
	file, err := l.disk.Open(p.name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	w := walk{reader: segment.NewReader(file, p.writer), name: p.name, writer: p.writer,
		offset: segment.HeaderSize, next: p.first}
	var b []byte
	for {
		batch, damage, err := w.step(p.size, p.end)
		if damage != nil {
			found = append(found, *damage)
		}
		if err == io.EOF {
			return found, nil
		}
		if batch.Next() <= p.from {
			continue
		}
		known := int(max(batch.First, p.from) - batch.First)
		frames := batch.Frames[wire.FramesSize(batch.Frames, known):]
		b = append(append(b[:0], make([]byte, segment.BatchHeaderSize)...), frames...)
		first := to.first + (batch.First + uint64(known) - p.from)
		segment.SealBatch(b, to.writer, first, batch.Count-known)
		if _, err := to.file.WriteAt(b, to.size); err != nil {
			return found, err
		}
		to.size += int64(len(b))
	}
}

// publish puts the copies in the place of what they were made of.
func (l *Log) publish(r renewal, writer segment.WriterID) {
	for _, c := range r.copies {
		for _, d := range c.damage {
			l.reportNow(c.old, d)
		}
	}
	l.mu.Lock()
	begin := len(l.segments)
	if len(r.old) > 0 {
		begin = slices.Index(l.segments, r.old[0].part)
	}
	var gone, kept []*part
	for i, p := range l.segments {
		if i >= begin || p.writer == writer { // A former one may lie behind those that copies have replaced.
			gone = append(gone, p)
		} else {
			kept = append(kept, p)
		}
	}
	l.segments = kept
	for i, c := range r.copies {
		from := r.old[i].from
		c.part.from = c.part.first + (max(c.old.from, from) - from)
		for _, g := range c.old.gaps {
			if g.to > from {
				c.part.addGap(gap{c.part.first + (max(g.from, from) - from), c.part.first + (g.to - from)})
			}
		}
		c.part.closeFile()
		l.segments = append(l.segments, c.part)
	}
	for _, p := range gone {
		p.removed = true
		p.closeFile()
	}
	l.writer, l.next, l.active = r.writer, r.next, nil
	l.counts.Renewed++
	l.sumLocked()
	l.wakeLocked()
	l.mu.Unlock()
	l.discard(gone)
	l.disk.SyncNames() // Else they may come back with the power, and be there under both identities.
}
