// SPDX-License-Identifier: Apache-2.0

package queue

// This file has a list of segments. An operation at either end costs the same, however long the
// list is.

import (
	"slices"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/wire"
)

// A segment is a run of whole frames in one chunk: chunk.B[from:to]. A message that is lent is a
// segment without a chunk.
type segment struct {
	chunk    *buffers.Buffer
	loan     *loan
	from, to int
	count    int           // Number of frames, at least 1.
	first    uint64        // Number of its first message; the first accepted message is 1.
	queuedAt time.Duration // When its first message was enqueued, since startTime.
	sentAt   time.Duration // When NextBatch last took it, since startTime; with acks only.
}

// A segmentList is an ordered list of segments, with the sums over them.
type segmentList struct {
	segs    []segment
	backing []segment // The whole array of segs.
	count   int       // Frames in all of them,
	bytes   int       // and their bytes.
}

// add appends seg. If more than half of the array is free, it moves the segments to the start
// instead of growing the array. So the cost does not depend on the length of the list.
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

// remove removes n segments, starting at i. Its cost is bounded by the number of segments before i.
func (l *segmentList) remove(i, n int) {
	for _, seg := range l.segs[i : i+n] {
		l.count -= seg.count
		l.bytes -= seg.to - seg.from
	}
	copy(l.segs[n:i+n], l.segs[:i])
	clear(l.segs[:n])
	l.segs = l.segs[n:]
}

// appendTo appends to bufs the bytes of a segment from offset part on, and returns their number. Of a loan it
// appends at most limit bytes.
func (seg *segment) appendTo(bufs [][]byte, part, to, limit int) ([][]byte, int) {
	if seg.loan == nil {
		return append(bufs, seg.chunk.B[seg.from+part:to]), to - seg.from
	}
	n := 0
	if prefix := seg.loan.prefix; part < len(prefix) {
		bufs = append(bufs, prefix[part:])
		n = len(prefix) - part
		part = len(prefix)
	}
	data := seg.loan.data[part-len(seg.loan.prefix):]
	data = data[:min(len(data), limit)]
	return append(bufs, data), n + len(data)
}

// trimFront removes the first count frames of segment i, which have size bytes.
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
	if seg.loan != nil {
		return seg.loan.data, seg.to - seg.from
	}
	length, header, _ := wire.ParsePrefix(seg.chunk.B[seg.from:seg.to])
	size = header + int(length)
	return seg.chunk.B[seg.from+header : seg.from+size], size
}
