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

// A copied is what was written again of a segment.
type copied struct {
	old, part *part    // No part if all was handled or is synced.
	kept      int64    // Size of what the old one keeps,
	from      uint64   // and the number behind that.
	damage    []Damage // What could not be read of the old one.
}

// repair writes to new segments all that is not handled from the first message on that a failed sync may
// have lost, and syncs them. A group, if there is one, lies behind the active segment and is not
// published yet. It does nothing if no sync has failed. The caller holds io.
func (l *Log) repair(g *group) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	if l.failure == nil {
		l.mu.Unlock()
		return nil
	}
	from := 0
	for from < len(l.segments) && !l.segments[from].failed {
		from++
	}
	old := append([]*part(nil), l.segments[from:]...)
	active := l.active
	l.mu.Unlock()
	var copies []copied
	var err error
	for i := 0; i < len(old) && err == nil; i++ {
		size, end := old[i].size, old[i].end
		if g != nil && old[i] == active {
			size, end = size+int64(len(g.b)), l.next+uint64(g.count)
		}
		var c copied
		c, err = l.copyPart(old[i], size, end, i > 0)
		copies = append(copies, c)
	}
	if err == nil {
		err = l.disk.SyncNames()
	}
	if err != nil {
		for _, c := range copies {
			if c.part != nil {
				l.abandon(c.part)
			}
		}
		return fmt.Errorf("writing again what was not synced: %w", err)
	}
	l.replace(copies, g)
	return nil
}

// copyPart copies what is not handled of a segment: of the first one what lies behind its synced bytes, of
// those behind it all, because the order of the names is that of the messages.
func (l *Log) copyPart(p *part, size int64, end uint64, all bool) (c copied, err error) {
	c.old, c.kept, c.from = p, max(p.synced, segment.HeaderSize), max(p.syncedEnd, p.first)
	if all {
		c.kept, c.from = segment.HeaderSize, p.first
	}
	file, err := l.disk.Open(p.name)
	if err != nil {
		return c, err
	}
	defer file.Close()
	l.mu.Lock()
	unhandled := l.unhandledLocked(p)
	l.start++
	l.mu.Unlock()
	w := walk{reader: segment.NewReader(file, p.writer), name: p.name, writer: p.writer,
		offset: c.kept, next: c.from}
	var b []byte
	for {
		batch, damage, err := w.step(size, end)
		if damage != nil {
			c.damage = append(c.damage, *damage)
		}
		if err == io.EOF {
			break
		}
		if batch.Next() <= unhandled {
			continue
		}
		if c.part == nil {
			if c.part, err = l.create(p.writer, batch.First); err != nil {
				return c, err
			}
			c.part.modified = p.modified
		}
		b = append(append(b[:0], make([]byte, segment.BatchHeaderSize)...), batch.Frames...)
		segment.SealBatch(b, p.writer, batch.First, batch.Count)
		if _, err := c.part.file.WriteAt(b, c.part.size); err != nil {
			return c, err
		}
		c.part.size, c.part.end = c.part.size+int64(len(b)), batch.Next()
	}
	if c.part == nil {
		return c, nil
	}
	c.part.synced, c.part.syncedEnd = c.part.size, c.part.end
	return c, c.part.file.Sync()
}

// replace puts the copies in the place of what they were made of. Of an old segment the synced messages
// stay, and the numbers that could not be read.
func (l *Log) replace(copies []copied, g *group) {
	for _, c := range copies {
		for _, d := range c.damage {
			l.report(c.old, d)
		}
	}
	l.mu.Lock()
	active := l.active
	l.active = nil
	for i, c := range copies {
		if c.part == nil {
			c.old.closeFile()
			c.old.failed = false
			continue
		}
		c.part.gaps = slices.Clone(c.old.gaps)
		c.old.size, c.old.end = c.kept, c.part.first
		c.old.failed = false
		c.old.closeFile()
		l.segments = append(l.segments, c.part)
		if g != nil && c.old == active {
			c.part.end = l.next // Append publishes the group.
		}
		if i == len(copies)-1 && c.old == active {
			l.active = c.part
		}
	}
	l.failure = nil
	handled := l.takeHandledLocked()
	l.mu.Unlock()
	l.discard(handled)
}
