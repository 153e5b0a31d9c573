// SPDX-License-Identifier: Apache-2.0

package journal

// This file writes again what a failed sync may have lost. The kernel tells of each error once and then
// holds the pages for clean, so a second sync of that file would tell nothing.

import (
	"fmt"
	"io"
	"slices"

	"github.com/udsipc/udsipc/internal/segment"
)

// newSuffix is behind the name of a copy until it is whole and synced. Open removes such files.
const newSuffix = ".new"

// repair writes to new segments all that is not handled from the first message on that a failed sync may
// have lost, and syncs them. A group, if there is one, lies behind the active segment and is not
// published yet; it lies behind the last segment afterwards. It does nothing if no sync has failed. The caller
// holds io.
//
// A copy takes the place of all segments with its numbers, for the next Open too. So the last segment is
// copied first: whenever the process or the machine ends, the copies that are there have all from some
// number on, and the segments that are left have what is before it.
func (l *Log) repair(g *group) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	if l.failure == nil {
		l.mu.Unlock()
		return nil
	}
	from := slices.IndexFunc(l.segments, func(p *part) bool { return p.failed })
	if from < 0 { // All that a sync may have lost is handled, or was dropped.
		l.failure = nil
		l.mu.Unlock()
		return nil
	}
	old := slices.Clone(l.segments[from:])
	start := l.start + 1
	l.start += uint32(len(old)) + 1 // What is written next, maybe by another writer, is behind the copies.
	l.mu.Unlock()
	used := false
	for i, p := range slices.Backward(old) {
		if err := l.rewrite(p, start+uint32(i), i > 0, g, &used); err != nil {
			if !used {
				// Each write tries again. While a disk fails for days, that would use up the numbers.
				l.mu.Lock()
				l.start = start - 1
				l.mu.Unlock()
			}
			if g != nil && l.active != nil {
				l.active.file.Truncate(l.active.size) // If the group stays, it is behind what counts.
			}
			return fmt.Errorf("writing again what was not synced: %w", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failure = nil
	return nil
}

// rewrite puts a copy in the place of a segment: of the first one what lies behind its synced bytes, of those behind
// it all, because the order of the names is that of the messages. It sets used when a start after it may know of start.
func (l *Log) rewrite(p *part, start uint32, all bool, g *group, used *bool) error {
	c := copied{old: p, kept: max(p.synced, segment.HeaderSize), from: max(p.syncedEnd, p.first)}
	if all {
		c.kept, c.from = segment.HeaderSize, p.first
	}
	err := l.copyPart(&c, start, g)
	*used = *used || err == nil && c.part != nil
	if err == nil && c.part != nil && p.start <= l.confirmed && l.welcomed != l.writer {
		// A reader may know what is in the copy. What none knows is in later copies already.
		err = l.setConfirmed(max(l.confirmed, start))
	}
	if err == nil && c.part != nil {
		err = l.disk.Rename(c.part.name+newSuffix, c.part.name)
		if err == nil {
			err = l.disk.SyncNames()
		}
	}
	if err != nil {
		if c.part != nil {
			c.part.file.Close()
			l.disk.Remove(c.part.name + newSuffix)
			l.disk.Remove(c.part.name) // If it stays, it has nothing that another one has not.
		}
		return err
	}
	l.replace(c)
	return nil
}

// A copied is what was written again of a segment.
type copied struct {
	old, part *part    // No part if all was handled or is synced.
	kept      int64    // Size of what the old one keeps,
	from      uint64   // and the number behind that.
	damage    []Damage // What could not be read of the old one.
}

// copyPart writes what is not handled of a segment to a new file, and the group behind the active one, and
// syncs it. The group is not read back: if the disk does not return it, that is no reason to lose it.
func (l *Log) copyPart(c *copied, start uint32, g *group) error {
	p := c.old
	file, err := l.disk.Open(p.name)
	if err != nil {
		return err
	}
	defer file.Close()
	l.mu.Lock()
	unhandled := l.unhandledLocked(p)
	withGroup := g != nil && p == l.active
	l.mu.Unlock()
	w := walk{reader: segment.NewReader(file, p.writer), name: p.name, writer: p.writer,
		offset: c.kept, next: c.from}
	var b []byte
	for {
		batch, damage, err := w.step(p.size, p.end)
		if damage != nil {
			c.damage = append(c.damage, *damage)
		}
		if err == io.EOF {
			break
		}
		if batch.Next() <= unhandled {
			continue
		}
		b = append(append(b[:0], make([]byte, segment.BatchHeaderSize)...), batch.Frames...)
		segment.SealBatch(b, p.writer, batch.First, batch.Count)
		if err := l.copyBatch(c, start, batch.First, b); err != nil {
			return err
		}
		c.part.size, c.part.end = c.part.size+int64(len(b)), batch.Next()
	}
	if withGroup {
		if err := l.copyBatch(c, start, g.first, g.b); err != nil {
			return err
		}
	}
	if c.part == nil {
		return nil
	}
	c.part.synced, c.part.syncedEnd = c.part.size, c.part.end
	return c.part.file.Sync()
}

// copyBatch writes a batch behind what counts of a copy, which it makes for the first one.
func (l *Log) copyBatch(c *copied, start uint32, first uint64, b []byte) (err error) {
	if c.part == nil {
		if c.part, err = l.create(c.old.writer, start, first, newSuffix); err != nil {
			return err
		}
		c.part.begun, c.part.modified, c.part.from = c.old.begun, c.old.modified, c.old.from
	}
	_, err = c.part.file.WriteAt(b, c.part.size)
	return err
}

// replace puts a copy in the place of what it was made of. Of the old segment the synced messages stay, and
// the numbers that could not be read.
func (l *Log) replace(c copied) {
	for _, d := range c.damage {
		l.reportNow(c.old, d)
	}
	l.mu.Lock()
	active := c.old == l.active
	if active {
		l.active = nil
	}
	c.old.closeFile()
	c.old.failed = false
	at := slices.Index(l.segments, c.old)
	switch {
	case c.part == nil:
	case at < 0: // It was dropped or handled meanwhile.
		c.part.file.Close()
		l.mu.Unlock()
		l.disk.Remove(c.part.name)
		return
	default:
		c.part.gaps = slices.Clone(c.old.gaps)
		c.old.size, c.old.end = c.kept, min(c.old.end, c.part.first)
		l.segments = slices.Insert(l.segments, at+1, c.part)
		if active {
			l.active = c.part
		} else {
			c.part.closeFile()
		}
	}
	handled := l.takeHandledLocked()
	l.mu.Unlock()
	l.discard(handled)
}
