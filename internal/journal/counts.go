// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"time"

	"github.com/udsipc/udsipc/internal/latency"
)

// Counts is what became of the messages. At every moment
//
//	Accepted + Found = Sent + Undelivered + Dropped + Expired + Damaged + Messages
type Counts struct {
	Accepted    uint64 // Append returned nil, or is about to.
	Found       uint64 // Left by former processes.
	Sent        uint64 // Handled.
	Undelivered uint64 // Refused by the reader.
	Dropped     uint64 // Dropped to make room.
	Expired     uint64 // Older than Config.MaxAge.
	Damaged     uint64 // Could not be read.
	Messages    uint64 // On the disk and not handled.

	Known        uint64 // Of Sent: passed over because the reader knew them.
	Renewed      uint64 // Identities that Welcomed gave up.
	DamagedBytes uint64
	Bytes        int64 // Size of all segments.
	Segments     int
	Unsynced     int64 // Bytes of those with messages that are not handled, and that may not survive the machine.
	SyncErrors   uint64
	SyncTimes    latency.Summary // Of the syncs of segments, those with an error too.
	Oldest       time.Time       // About when the oldest message was written; zero without one.
}

// Counts returns the counts of one moment.
func (l *Log) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.SyncTimes = l.syncTimes.Summary()
	c.Bytes, c.Segments = l.bytesLocked(), len(l.segments)
	for _, p := range l.segments {
		n := p.messages(l.unhandledLocked(p))
		if c.Messages += n; n > 0 {
			c.Unsynced += p.size - p.synced
		}
	}
	c.Oldest = l.oldestLocked()
	return c
}

// bytesLocked returns the size of all segments.
func (l *Log) bytesLocked() int64 {
	if len(l.segments) == 0 {
		return 0
	}
	return l.finished + l.segments[len(l.segments)-1].size
}

// lastLocked returns the last segment, or nil.
func (l *Log) lastLocked() *part {
	if len(l.segments) == 0 {
		return nil
	}
	return l.segments[len(l.segments)-1]
}

// sumLocked notes the size of the segments that do not grow, after the list has changed.
func (l *Log) sumLocked() {
	l.finished = 0
	for _, p := range l.segments[:max(len(l.segments)-1, 0)] {
		l.finished += p.size
	}
}

// End returns how many messages there were: Accepted + Found.
func (l *Log) End() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.counts.Accepted + l.counts.Found
}

// Left returns how many messages have left with all before them, in the order of End. Messages leave in
// that order but for damage: what cannot be read counts as Damaged when Next passes it, before what
// Next has returned earlier is handled. Left counts it after that.
func (l *Log) Left() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	left := l.counts.Accepted + l.counts.Found
	first := true // No message was met that is still there.
	for _, p := range l.segments {
		from := max(p.first, p.from)
		if first {
			from = p.skipGaps(l.unhandledLocked(p))
		}
		if from < p.end {
			left, first = left-(p.end-from), false
		}
	}
	return left
}

// Changed returns a channel that is closed when messages leave next: handled, dropped, expired, or damaged.
// Get it before Left.
func (l *Log) Changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.changed == nil {
		l.changed = make(chan struct{})
	}
	return l.changed
}

// leftLocked tells those who wait that messages have left.
func (l *Log) leftLocked() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}
