// SPDX-License-Identifier: Apache-2.0

package journal

// This file reads the messages back, in order.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/segment"
	"github.com/udsipc/udsipc/internal/wire"
)

// A Batch is messages that follow each other, without those that were handled before. What was written as one
// is in one Batch.
type Batch struct {
	Writer segment.WriterID
	First  uint64
	Count  int
	Frames []byte // Valid until the next call of Next.
}

// A cursor is where Next goes on. The caller of Next alone uses it.
type cursor struct {
	walk
	file disk.File // Nil without a segment.
	done bool      // Whether all of the segment is read.
	sent uint64    // Next number to return; of the writer of the walk.
}

// Next returns the next batch. Its numbers may begin behind those of the one before: messages were damaged, dropped
// or handled between them. Another writer than before is a new identity. Without a batch the error is
// io.EOF: wait for Arrived. Another error is that of opening a segment: the next call tries again.
func (l *Log) Next() (Batch, error) {
	l.Expire()
	c := &l.cursor
	for {
		p, view := l.view()
		if p == nil {
			l.reportPending()
			return Batch{}, io.EOF
		}
		if p.name != c.name || c.file == nil {
			err := l.enter(p)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, disk.ErrUnsafe) {
				return Batch{}, fmt.Errorf("opening the segment %s of the spool: %w", p.name, err)
			}
			if err != nil {
				l.report(p, Damage{Name: p.name, Writer: p.writer, From: view.unhandled, To: view.end, Err: err})
				c.walk, c.done = walk{reader: c.reader, name: p.name, writer: p.writer}, true
				continue
			}
		}
		c.sent = max(c.sent, view.unhandled)
		if view.active && c.offset >= view.size {
			l.reportPending()
			return Batch{}, io.EOF
		}
		batch, damage, err := c.step(view.size, view.end)
		if damage != nil {
			l.report(p, *damage)
		}
		if err != nil {
			c.done = !view.active
			continue
		}
		if batch.Next() <= c.sent {
			continue
		}
		known := int(max(c.sent, batch.First) - batch.First)
		frames := batch.Frames[wire.FramesSize(batch.Frames, known):]
		c.sent = batch.Next()
		return Batch{p.writer, batch.First + uint64(known), batch.Count - known, frames}, nil
	}
}

// A view is what Next knows of a part for one step.
type view struct {
	size           int64
	end, unhandled uint64
	active         bool
}

// view returns the segment that the cursor reads next: the first one whose name is not below its own.
func (l *Log) view() (*part, view) {
	c := &l.cursor
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.segments {
		if p.name < c.name || p.name == c.name && c.done {
			continue
		}
		return p, view{p.size, p.end, l.unhandledLocked(p), p == l.active}
	}
	return nil, view{}
}

// enter opens a segment at its beginning.
func (l *Log) enter(p *part) error {
	c := &l.cursor
	c.close()
	file, err := l.disk.Open(p.name)
	if err != nil {
		return err
	}
	if c.reader == nil {
		c.reader = segment.NewReader(file, p.writer)
	}
	c.reader.Reset(file, p.writer)
	if p.writer != c.writer {
		c.sent = 0
	}
	c.walk = walk{reader: c.reader, name: p.name, writer: p.writer, offset: segment.HeaderSize, next: p.first, runs: true}
	c.file, c.done = file, false
	return nil
}

func (c *cursor) close() {
	if c.file != nil {
		c.file.Close()
		c.file = nil
	}
}
