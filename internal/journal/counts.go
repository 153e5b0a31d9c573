// SPDX-License-Identifier: Apache-2.0

package journal

import (
	"time"

	"github.com/udsipc/udsipc/internal/latency"
)

// Counts is what became of the messages. At every moment
//
//	Accepted + Found = Sent + Dropped + Expired + Damaged + Messages
type Counts struct {
	Accepted uint64 // Append returned nil, or is about to.
	Found    uint64 // Left by former processes.
	Sent     uint64 // Handled.
	Dropped  uint64 // Dropped to make room.
	Expired  uint64 // Older than Config.MaxAge.
	Damaged  uint64 // Could not be read.
	Messages uint64 // On the disk and not handled.

	DamagedBytes uint64
	Refused      uint64 // Messages for which Append returned an error.
	Bytes        int64  // Size of all segments.
	Segments     int
	Unsynced     int64 // Bytes of them that may not survive the machine.
	SyncErrors   uint64
	SyncTimes    latency.Summary // Of the syncs of segments, those with an error too.
	Oldest       time.Time       // When the oldest segment was last written; zero if there is none.
}

// Counts returns the counts of one moment.
func (l *Log) Counts() Counts {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.counts
	c.SyncTimes = l.syncTimes.Summary()
	c.Bytes, c.Segments = l.bytesLocked(), len(l.segments)
	for _, p := range l.segments {
		c.Messages += p.messages(l.unhandledLocked(p))
		c.Unsynced += p.size - p.synced
	}
	if len(l.segments) > 0 {
		c.Oldest = l.segments[0].modified
	}
	return c
}

// bytesLocked returns the size of all segments.
func (l *Log) bytesLocked() int64 {
	if len(l.segments) == 0 {
		return 0
	}
	return l.finished + l.segments[len(l.segments)-1].size
}

// sumLocked notes the size of the segments that do not grow, after the list has changed.
func (l *Log) sumLocked() {
	l.finished = 0
	for _, p := range l.segments[:max(len(l.segments)-1, 0)] {
		l.finished += p.size
	}
}
