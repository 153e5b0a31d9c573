// SPDX-License-Identifier: Apache-2.0

package journal

// This file finds what former processes have left.

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/udsipc/udsipc/internal/segment"
)

// load finds the writer and the end of each segment.
func (l *Log) load(state segment.State, known bool, handled segment.Handled) error {
	found, err := l.list()
	if err != nil {
		return err
	}
	headless := map[*part]bool{}
	for _, p := range found {
		if headless[p], err = l.readHeader(p); err != nil {
			return err
		}
	}
	// What was accepted is on the disk, unless the machine was lost.
	kept := known && (state.Orderly || state.Boot == l.config.Boot && state.Boot != [16]byte{})
	for i, p := range found {
		if !headless[p] {
			l.segments = append(l.segments, p)
			continue
		}
		guesses := []segment.WriterID{state.Writer, handled.Writer}
		if last := l.lastLocked(); last != nil {
			guesses = append(guesses, last.writer)
		}
		var next *part
		if n := slices.IndexFunc(found[i:], func(p *part) bool { return !headless[p] }); n > 0 {
			next = found[i+n]
			guesses = append(guesses, next.writer)
		}
		readable, err := l.guessWriter(p, guesses)
		switch {
		case err != nil:
			return err
		case readable || kept && l.isMissing(p, next, state):
			l.segments = append(l.segments, p)
		default:
			l.lostEnd = l.lostEnd || next == nil && p.size > segment.HeaderSize
			l.setAside(p)
		}
	}
	l.dateFound()
	return l.findEnds(state)
}

// list returns the segments in the order of their names. It removes copies that were not finished.
func (l *Log) list() (found []*part, err error) {
	entries, err := l.disk.List()
	for _, entry := range entries {
		start, first, ok := segment.ParseName(entry.Name)
		if !ok {
			if _, _, unfinished := segment.ParseName(strings.TrimSuffix(entry.Name, newSuffix)); unfinished {
				l.disk.Remove(entry.Name)
			}
			continue
		}
		l.start = max(l.start, start)
		found = append(found, &part{name: entry.Name, start: start, first: first, end: first, size: entry.Size,
			modified: entry.Modified})
	}
	return found, err
}

// findEnds finds the end of each segment. A later one goes on from its first number, even if that is not behind
// this one: a repair has written again what is in both.
func (l *Log) findEnds(state segment.State) error {
	limits := map[segment.WriterID]uint64{}
	for i, p := range slices.Backward(l.segments) {
		if limit, followed := limits[p.writer]; followed {
			p.end = max(p.first, limit)
			limits[p.writer] = min(limit, p.first)
			continue
		}
		limits[p.writer] = p.first
		if err := l.findEnd(p); err != nil {
			return err
		}
		if state.Orderly && i+1 == len(l.segments) && state.Writer == p.writer {
			p.end = max(p.end, state.Next) // What is missing there is reported when it is read.
		}
	}
	return nil
}

// dateFound corrects the times of files that were written by a clock that was wrong: none is later than now,
// and none is earlier than that of a segment before it. From now on the clock that counts does not jump.
func (l *Log) dateFound() {
	now := l.config.Now()
	age := time.Duration(math.MaxInt64)
	for _, p := range l.segments {
		if p.modified.IsZero() {
			continue // The file system does not tell.
		}
		age = min(age, max(0, now.Sub(p.modified)))
		p.modified = now.Add(-age)
		p.begun = p.modified
	}
}

// readHeader sets the writer of a segment, or reports that its header is too damaged.
func (l *Log) readHeader(p *part) (damaged bool, err error) {
	file, err := l.disk.Open(p.name)
	if err != nil {
		return false, err
	}
	defer file.Close()
	b := make([]byte, segment.HeaderSize)
	n, _ := file.ReadAt(b, 0)
	h, err := segment.ParseHeader(b[:n])
	if err == nil && h.First == p.first {
		p.writer = h.Writer
		return false, nil
	}
	p.damaged = p.size > segment.HeaderSize
	p.writer, damaged = flippedHeader(b[:n], p.first)
	return damaged, nil
}

// flippedHeader returns the writer of a header of which one bit is wrong: the checksum tells which one. Often nothing
// else knows the writer.
func flippedHeader(b []byte, first uint64) (writer segment.WriterID, damaged bool) {
	for i := range 8 * len(b) {
		b[i/8] ^= 1 << (i % 8)
		if h, err := segment.ParseHeader(b); err == nil && h.First == first {
			return h.Writer, false
		}
		b[i/8] ^= 1 << (i % 8)
	}
	return writer, true
}

// guessWriter sets the writer of a segment without a header. Its batches are still those of somebody: their checksums
// decide whether of a writer that is guessed. Without such a batch, nothing in it is known.
func (l *Log) guessWriter(p *part, guesses []segment.WriterID) (readable bool, err error) {
	file, err := l.disk.Open(p.name)
	if err != nil {
		return false, err
	}
	defer file.Close()
	for _, guess := range guesses {
		reader := segment.NewReader(file, guess)
		batch, err := reader.ReadBatch(segment.HeaderSize, p.size)
		if err != nil {
			batch, err = reader.Find(segment.HeaderSize, p.size, p.first, math.MaxUint64)
		}
		if err == nil && batch.First >= p.first {
			p.writer = guess
			return true, nil
		}
	}
	return false, nil
}

// isMissing reports whether messages are missing where a segment is of which nothing can be read, and sets whose: those
// up to the next segment, or up to an orderly end. A segment of the same writer before it tells of them already.
func (l *Log) isMissing(p, next *part, state segment.State) bool {
	end := state.Next
	switch {
	case next != nil:
		p.writer, end = next.writer, next.first
	case state.Orderly:
		p.writer = state.Writer
	default:
		return false
	}
	return end > p.first && !slices.ContainsFunc(l.segments, func(q *part) bool { return q.writer == p.writer })
}

// setAside removes a segment of which nothing can be read, or keeps it if it has more than a header.
func (l *Log) setAside(p *part) {
	if p.size <= segment.HeaderSize {
		l.disk.Remove(p.name) // A start that ended before its first message.
		return
	}
	l.keep(p.name)
	l.counts.DamagedBytes += uint64(p.size)
	if l.config.OnDamage != nil {
		l.config.OnDamage(Damage{Name: p.name, From: p.first, To: p.first, Bytes: p.size,
			Err: fmt.Errorf("%w: no batch of a known writer", segment.ErrDamaged)})
	}
}

// findEnd goes through a segment that no other one of its writer follows.
func (l *Log) findEnd(p *part) error {
	file, err := l.disk.Open(p.name)
	if err != nil {
		return err
	}
	defer file.Close()
	s := scanEnd(segment.NewReader(file, p.writer), p.first, p.size)
	if s.tail == tailDamaged {
		p.damaged = true
		l.counts.DamagedBytes += uint64(p.size - s.size)
		if l.config.OnDamage != nil {
			l.config.OnDamage(Damage{Name: p.name, Writer: p.writer, From: s.end, To: s.end,
				Bytes: p.size - s.size, Err: segment.ErrDamaged})
		}
	}
	p.end, p.size = s.end, s.size
	return nil
}
