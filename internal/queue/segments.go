// SPDX-License-Identifier: Apache-2.0

package queue

// This file is a list of segments that costs the same at both ends, however long it is.

import (
	"slices"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/wire"
)

// A segment is a run of whole frames in one chunk: chunk.B[from:to].
type segment struct {
	chunk    *buffers.Buffer
	from, to int
	count    int           // Frames in it, 1 or more.
	first    uint64        // The number of its first message; the first that was accepted is 1.
	queuedAt time.Duration // When its first message came, since the queue's startTime; with maxAge only.
	sentAt   time.Duration // When it was last taken, since startTime; with acks only.
}

// A segmentList is a run of segments, in order, and the sums over them.
type segmentList struct {
	segs    []segment
	backing []segment // The memory of segs, from its beginning.
	count   int       // Frames in all of them,
	bytes   int       // and their bytes.
}

// add appends seg, and first moves what there is to the beginning of its memory if that is half
// empty: so neither end costs more than it should, however long the list is.
func (l *segmentList) add(seg segment) {
	l.count += seg.count
	l.bytes += seg.to - seg.from
	if full := len(l.segs) == cap(l.segs); full && 2*len(l.segs) < cap(l.backing) {
		moved := append(l.backing[:0], l.segs...)
		clear(moved[len(moved):cap(moved)])
		l.segs = append(moved, seg)
		return
	} else if full {
		l.segs = slices.Grow(l.segs, len(l.segs)+1)
		l.backing = l.segs[:0]
	}
	l.segs = append(l.segs, seg)
}

// remove takes n segments from i on out of the list. It costs no more than the segments before i.
func (l *segmentList) remove(i, n int) {
	for _, seg := range l.segs[i : i+n] {
		l.count -= seg.count
		l.bytes -= seg.to - seg.from
	}
	copy(l.segs[n:i+n], l.segs[:i])
	clear(l.segs[:n])
	l.segs = l.segs[n:]
}

// trimFront takes count frames of size bytes off the front of segment i.
func (l *segmentList) trimFront(i, count, size int) {
	seg := &l.segs[i]
	seg.from += size
	seg.count -= count
	seg.first += uint64(count)
	l.count -= count
	l.bytes -= size
}

// message returns the first message of segment i, and the size of its frame.
func (l *segmentList) message(i int) (data []byte, size int) {
	seg := &l.segs[i]
	length, header, _ := wire.ParsePrefix(seg.chunk.B[seg.from:seg.to])
	size = header + int(length)
	return seg.chunk.B[seg.from+header : seg.from+size], size
}
