// SPDX-License-Identifier: Apache-2.0

package journal

// This file begins segments.

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/udsipc/udsipc/internal/segment"
)

// begin begins a new segment.
func (l *Log) begin() (*part, error) {
	p, err := l.create(l.writer, l.start, l.next, "")
	if err == nil && l.config.Sync >= 0 {
		err = l.disk.SyncNames()
	}
	l.mu.Lock()
	if err != nil {
		// What is left of this one may come back, and is taken for where the segments before it end.
		l.active = nil
		l.mu.Unlock()
		l.abandon(p, segment.Name(l.start, l.next))
		return nil, err
	}
	l.unnamed = l.unnamed || l.config.Sync < 0
	former := l.lastLocked()
	var handled []*part
	if former != nil && former.end == former.first && former.start >= l.opened {
		// The sync of its first batch has failed. While the disk fails, there is one for each write.
		former.removed = true
		former.closeFile()
		l.segments, handled = l.segments[:len(l.segments)-1], append(handled, former)
		former = nil
	}
	l.segments, l.active = append(l.segments, p), p
	if former != nil {
		l.finished += former.size
		if former.messages(l.unhandledLocked(former)) == 0 {
			handled = l.takeHandledLocked()
		}
	}
	l.mu.Unlock()
	l.discard(handled)
	l.boundFiles()
	return p, nil
}

// abandon removes a segment that is not used, or nil if it could not be made. If its name stays, that of the
// next one is another. Counting each attempt would use up the numbers while the disk is full for days.
func (l *Log) abandon(p *part, name string) {
	if p != nil {
		p.file.Close()
		l.disk.Remove(p.name) // If it stays, it has nothing that another one has not.
	} else if file, err := l.disk.Open(name); errors.Is(err, fs.ErrNotExist) {
		return
	} else if err == nil {
		file.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.start++
}

// create makes the file of a segment, with a suffix behind its name.
func (l *Log) create(writer segment.WriterID, start uint32, first uint64, suffix string) (*part, error) {
	p := &part{name: segment.Name(start, first), start: start, writer: writer, first: first, end: first,
		size: segment.HeaderSize, modified: l.config.Now()}
	var err error
	if suffix != "" {
		l.disk.Remove(p.name + suffix) // What an attempt that failed has left.
	}
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
