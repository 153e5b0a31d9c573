// SPDX-License-Identifier: Apache-2.0

package journal

// This file goes through the batches of a segment, and over its damage.

import (
	"errors"
	"io"
	"math"

	"github.com/udsipc/udsipc/internal/segment"
)

// A walk is a place in a segment.
type walk struct {
	reader *segment.Reader
	name   string
	writer segment.WriterID
	offset int64  // Where the next batch begins.
	next   uint64 // Number that it should begin with.
	runs   bool   // Whether batches that follow each other may be returned as one.
}

// step returns the next batch of the first size bytes with messages below end, or io.EOF. The numbers that are
// missing before it, or before end, are in the damage.
func (w *walk) step(size int64, end uint64) (batch segment.Batch, damage *Damage, err error) {
	if w.runs {
		batch, err = w.reader.ReadRun(w.offset, size, end)
	} else {
		batch, err = w.reader.ReadBatch(w.offset, size)
	}
	if err == nil && (batch.First < w.next || batch.Next() > end) {
		// Another segment has these numbers, which goes on from a place before the end of this one.
		batch, err = segment.Batch{}, io.EOF
	}
	var cause error
	if err != nil && err != io.EOF {
		cause = err
		batch, err = w.reader.Find(w.offset, size, w.next, end)
	}
	to, start := batch.First, batch.Start
	if err != nil {
		if to, start, err = end, size, io.EOF; w.next >= end && errors.Is(cause, segment.ErrTorn) {
			cause = nil // A write was cut off. The process that wrote it had not accepted it.
		}
	}
	if to > w.next || cause != nil {
		damage = &Damage{Name: w.name, Writer: w.writer, From: w.next, To: max(to, w.next), Err: cause}
		if cause != nil {
			damage.Bytes = start - w.offset
		}
	}
	if err != nil {
		w.offset, w.next = size, max(end, w.next)
		return segment.Batch{}, damage, io.EOF
	}
	w.offset, w.next = batch.End, batch.Next()
	return batch, damage, nil
}

// A scan is what scanEnd found.
type scan struct {
	end  uint64 // Number behind the last batch.
	size int64  // Where it ends.
	tail tail
}

// A tail is how a segment ends.
type tail int

const (
	tailClean   tail = iota
	tailTorn         // Behind the last batch lies the beginning of the one that should come: a write was cut off.
	tailDamaged      // Something else lies there: batches may be missing.
)

// scanEnd goes through a segment whose end is not known.
func scanEnd(reader *segment.Reader, first uint64, size int64) scan {
	s := scan{end: first, size: segment.HeaderSize}
	for {
		batch, err := reader.ReadBatch(s.size, size)
		if err == io.EOF {
			return s
		}
		if err != nil || batch.First < s.end {
			if batch, err = reader.Find(s.size, size, s.end, math.MaxUint64); err != nil {
				if s.tail = tailDamaged; reader.Torn(s.size, size, s.end) {
					s.tail = tailTorn
				}
				return s
			}
		}
		s.end, s.size = batch.Next(), batch.End
	}
}
