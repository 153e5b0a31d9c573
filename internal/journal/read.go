// SPDX-License-Identifier: Apache-2.0

package journal

// This file reads the messages back, in order.

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

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
	part *part     // Nil without a segment.
	file disk.File // That of the part.
	done bool      // Whether all of the segment is read.
	sent uint64    // Next number to return; of the writer of the walk.
}

// Next returns the next batch. Its numbers may begin behind those of the one before: messages were damaged, dropped
// or handled between them. Another writer than before is a new identity. Without a batch the error is
// io.EOF: wait for Arrived. Another error is that of opening a segment: the next call tries again.
//
// A batch without messages tells that what comes next is damaged, of an identity that was not welcomed yet. Next
// returns it again until Welcomed has told whether the reader knows what is missing.
func (l *Log) Next() (Batch, error) {
	l.Expire()
	c := &l.cursor
	for {
		p, view := l.view()
		if p == nil {
			if c.reader != nil {
				c.reader.Trim()
			}
			return Batch{}, io.EOF
		}
		if p != c.part {
			err := l.enter(p)
			if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, disk.ErrUnsafe) {
				return Batch{}, fmt.Errorf("opening the segment %s of the spool: %w", p.name, err)
			}
			if err != nil {
				damage := Damage{Name: p.name, Writer: p.writer, From: view.unhandled, To: view.end, Err: err}
				if !l.report(p, damage) {
					return Batch{Writer: p.writer, First: damage.From}, nil
				}
				c.part, c.walk, c.done = p, walk{reader: c.reader, name: p.name, writer: p.writer}, true
			}
			continue
		}
		c.sent = max(c.sent, view.unhandled)
		before := c.walk
		batch, damage, err := c.step(view.size, view.end)
		if damage != nil && !l.report(p, *damage) {
			c.walk = before
			return Batch{Writer: p.writer, First: damage.From}, nil
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

// view returns the segment that the cursor reads next: the first one whose name is not below its own. At the end of
// the active one there is none.
func (l *Log) view() (*part, view) {
	c := &l.cursor
	l.mu.Lock()
	defer l.mu.Unlock()
	p := c.part
	if p == nil || p.removed || c.done {
		i := slices.IndexFunc(l.segments, func(p *part) bool {
			// One that a copy has replaced has no numbers, and its first one may be behind those of the copy.
			return p.first < p.end && (p.name > c.name || p.name == c.name && !c.done)
		})
		if i < 0 {
			return nil, view{}
		}
		p = l.segments[i]
	}
	if p == c.part && p == l.active && c.offset >= p.size {
		return nil, view{}
	}
	return p, view{p.size, p.end, l.unhandledLocked(p), p == l.active}
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
	c.part, c.file, c.done = p, file, false
	return nil
}

func (c *cursor) close() {
	if c.file != nil {
		c.file.Close()
		c.part, c.file = nil, nil
	}
}
