// SPDX-License-Identifier: Apache-2.0

package journal

// This file compares the log with what the reader knows, and gives up an identity whose numbers other
// messages have: those that were written after the backup that this spool was restored from.

import (
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/udsipc/udsipc/internal/segment"
)

// Welcomed tells that the first session of an identity in this process is open, before a message of it is
// sent: number is what the reader knows as handled. The messages up to it are passed over. The state tells
// the next start that a reader has welcomed this one; until that is on the disk, nothing may be sent.
//
// If number is one of a message that was never sent, because no reader has welcomed the start that wrote
// it, or of none at all, this is an older copy of the spool. The identity is given up, and renewed is true:
//   - what an earlier start may have sent is passed over as known;
//   - the rest is written again under a new identity, in order, before Append goes on. Numbers that Append
//     has returned, and a batch that Next has returned, are void: Next returns the messages again.
//     Identity returns the new one.
//
// An error changes nothing of the messages; the next call tries again. A process that ends just when the new
// files get their names, or when the old ones are removed, loses nothing, but messages may then be there
// under both identities. So may those of a copy of which only a part of the files is older, or that was
// made of a running process which no reader had welcomed yet.
func (l *Log) Welcomed(writer segment.WriterID, number uint64) (renewed bool, err error) {
	l.io.Lock()
	defer l.io.Unlock()
	if l.closed {
		return false, ErrClosed
	}
	l.mu.Lock()
	again, owns := writer == l.welcomed, l.ownsLocked(writer)
	unsent := l.unsentLocked(writer)
	limit := l.limitLocked(writer, unsent)
	l.mu.Unlock()
	switch {
	case again:
		return false, l.Handled(writer, number, 0)
	case !owns:
		return false, nil
	case number >= limit:
		return l.giveUp(writer, unsent, limit)
	}
	if err := l.confirm(writer); err != nil {
		return false, err
	}
	l.passOver(writer, number)
	l.mu.Lock()
	l.welcomed = writer
	l.mu.Unlock()
	l.reportPending()
	return false, nil
}

// Identity returns the identity of new messages, and the number of the next one.
func (l *Log) Identity() (writer segment.WriterID, next uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writer, l.next
}

// unsentLocked returns the index of the first segment of a writer of which nothing was ever sent.
func (l *Log) unsentLocked(writer segment.WriterID) int {
	i := slices.IndexFunc(l.segments, func(p *part) bool { return p.writer == writer && p.start > l.confirmed })
	if i < 0 {
		return len(l.segments)
	}
	return i
}

// limitLocked returns the first number of a writer that no reader can have handled.
func (l *Log) limitLocked(writer segment.WriterID, unsent int) uint64 {
	switch {
	case unsent < len(l.segments):
		return l.segments[unsent].first
	case writer == l.writer:
		return l.next
	}
	return math.MaxUint64 // The last messages of a former identity may be lost.
}

// passOver releases what the reader knows.
func (l *Log) passOver(writer segment.WriterID, number uint64) {
	l.mu.Lock()
	released, empty := l.releaseLocked(writer, number)
	l.counts.Sent += released
	l.counts.Known += released
	l.mu.Unlock()
	l.discard(empty)
}

// confirm writes to the state that messages of a writer may be sent from now on: those of all starts before
// the first segment of the next writer. The caller holds io.
func (l *Log) confirm(writer segment.WriterID) error {
	l.mu.Lock()
	confirmed := l.start
	if writer != l.writer {
		last := 0
		for i, p := range l.segments {
			if p.writer == writer {
				last = i
			}
		}
		if last+1 < len(l.segments) {
			confirmed = l.segments[last+1].start - 1
		} else {
			l.start++ // The segments of the next writer will be of a later one.
		}
	}
	l.mu.Unlock()
	if confirmed <= l.confirmed && writer != l.writer {
		return nil // It is written already.
	}
	return l.setConfirmed(confirmed)
}

// setConfirmed writes to the state of which segments a reader may know messages. If that fails, no state does as
// well: then the next start takes all that it finds for such. The caller holds io.
func (l *Log) setConfirmed(confirmed uint32) error {
	former := l.confirmed
	l.confirmed = confirmed
	err := l.saveState(false)
	if err != nil && l.hints.removeState() != nil {
		l.confirmed = former
		return err
	}
	return nil
}

// giveUp gives up the identity of a writer, and all that come after it: their messages from an index of
// the list on get a new one. Those before the limit are known to the reader. The caller holds io.
func (l *Log) giveUp(writer segment.WriterID, unsent int, limit uint64) (renewed bool, err error) {
	if err := l.repair(nil); err != nil {
		return false, err
	}
	if limit > 1 {
		l.passOver(writer, limit-1)
	}
	l.mu.Lock()
	unsent = l.unsentLocked(writer)
	old := slices.Clone(l.segments[unsent:])
	l.start++ // The names of the copies come behind all others.
	l.mu.Unlock()
	renewal := renewal{writer: l.config.NewWriter(), next: 1}
	err = l.hints.writeState(segment.State{Writer: renewal.writer, Next: 1, Starts: l.start,
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
		return false, fmt.Errorf("giving up the identity of an older copy of the spool: %w", asFull(err))
	}
	l.publish(renewal, writer, old)
	return true, nil
}

// A renewal is messages under a new identity that are not published yet.
type renewal struct {
	writer segment.WriterID
	next   uint64
	copies []copied
}

// copyAll writes the messages of segments again under the new identity, and syncs them. They have their
// names when all of them are there. Gaps in the numbers stay as wide as they are.
func (l *Log) copyAll(r *renewal, old []*part) error {
	for _, p := range old {
		if p.first == p.end {
			continue
		}
		to, err := l.create(r.writer, l.start, r.next, newSuffix)
		if err != nil {
			return err
		}
		r.copies = append(r.copies, copied{old: p, part: to})
		c := &r.copies[len(r.copies)-1]
		to.modified, to.end = p.modified, r.next+(p.end-p.first)
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

// copyBatches writes the batches of a segment to another one with other numbers.
func (l *Log) copyBatches(p, to *part) (found []Damage, err error) {
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
		b = append(append(b[:0], make([]byte, segment.BatchHeaderSize)...), batch.Frames...)
		segment.SealBatch(b, to.writer, to.first+(batch.First-p.first), batch.Count)
		if _, err := to.file.WriteAt(b, to.size); err != nil {
			return found, err
		}
		to.size += int64(len(b))
	}
}

// publish puts the copies in the place of what they were made of.
func (l *Log) publish(r renewal, writer segment.WriterID, old []*part) {
	l.reportPending()
	for _, c := range r.copies {
		for _, d := range c.damage {
			l.reportNow(c.old, d)
		}
	}
	l.mu.Lock()
	gone := slices.DeleteFunc(slices.Clone(l.segments), func(p *part) bool {
		return p.writer != writer && !slices.Contains(old, p)
	})
	l.segments = slices.DeleteFunc(l.segments, func(p *part) bool { return slices.Contains(gone, p) })
	for _, c := range r.copies {
		for _, g := range c.old.gaps {
			c.part.addGap(gap{c.part.first + (g.from - c.old.first), c.part.first + (g.to - c.old.first)})
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
