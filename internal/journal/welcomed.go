// SPDX-License-Identifier: Apache-2.0

package journal

// This file compares the log with what the reader knows.

import (
	"math"
	"slices"

	"github.com/udsipc/udsipc/internal/segment"
)

// Welcomed tells that the first session of an identity in this process is open, before a message of it is
// sent: number is what the reader knows as handled. The messages up to it are passed over. The state tells
// the next start that a reader has welcomed this one; until that is on the disk, nothing may be sent.
//
// If number is one of a message that was never sent, because no reader has welcomed the start that wrote
// it, or of none at all, this is an older copy of the spool. The identity is given up, and renewed is true:
//   - what an earlier start may have sent is passed over as known;
//   - the rest is written again under a new identity, in order, before Append goes on. Numbers that Append
//     has returned, and a batch that Next has returned, are void: Next returns the messages again.
//     Identity returns the new one.
//
// An error changes nothing of the messages; the next call tries again. A process that ends just when the new
// files get their names, or before the old ones are removed, loses nothing, but messages may then be there
// under both identities. So may those of a copy of which only a part of the files is older, or that was
// made of a running process which no reader had welcomed yet.
func (l *Log) Welcomed(writer segment.WriterID, number uint64) (renewed bool, err error) {
	l.io.Lock()
	defer l.io.Unlock()
	if l.closed {
		return false, ErrClosed
	}
	l.mu.Lock()
	again, owns := writer == l.welcomed, l.ownsLocked(writer)
	unsent := l.unsentLocked(writer)
	limit := l.limitLocked(writer, unsent)
	l.mu.Unlock()
	switch {
	case again:
		return false, l.Handled(writer, number, 0)
	case !owns:
		return false, nil
	case number >= limit:
		err = l.giveUp(writer, limit)
		return err == nil, err
	}
	if err := l.confirm(writer); err != nil {
		return false, err
	}
	l.passOver(writer, number)
	l.mu.Lock()
	l.welcomed = writer
	l.mu.Unlock()
	return false, nil
}

// Identity returns the identity of new messages, and the number of the next one.
func (l *Log) Identity() (writer segment.WriterID, next uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.writer, l.next
}

// unsentLocked returns the index of the first segment of a writer of which nothing was ever sent.
func (l *Log) unsentLocked(writer segment.WriterID) int {
	i := slices.IndexFunc(l.segments, func(p *part) bool { return p.writer == writer && p.start > l.confirmed })
	if i < 0 {
		return len(l.segments)
	}
	return i
}

// limitLocked returns the first number of a writer that no reader can have handled.
func (l *Log) limitLocked(writer segment.WriterID, unsent int) uint64 {
	switch {
	case unsent < len(l.segments):
		return l.segments[unsent].first
	case writer == l.writer:
		return l.next
	}
	return math.MaxUint64 // The last messages of a former identity may be lost.
}

// passOver releases what the reader knows.
func (l *Log) passOver(writer segment.WriterID, number uint64) {
	l.mu.Lock()
	released, empty := l.releaseLocked(writer, number)
	l.counts.Sent += released
	l.counts.Known += released
	l.mu.Unlock()
	l.discard(empty)
}

// confirm writes to the state that messages of a writer may be sent from now on: those of all starts before
// the first segment of the next writer. The caller holds io.
func (l *Log) confirm(writer segment.WriterID) error {
	l.mu.Lock()
	confirmed := l.start
	if writer != l.writer {
		last := 0
		for i, p := range l.segments {
			if p.writer == writer {
				last = i
			}
		}
		if last+1 < len(l.segments) {
			confirmed = l.segments[last+1].start - 1
		} else {
			l.start++ // The segments of the next writer will be of a later one.
		}
	}
	l.mu.Unlock()
	if confirmed <= l.confirmed && writer != l.writer && l.stateSaved {
		return nil // It is written already.
	}
	return l.setConfirmed(max(confirmed, l.confirmed))
}

// setConfirmed writes to the state of which segments a reader may know messages. If that fails, no state does as
// well: then the next start takes all that it finds for such. The caller holds io.
func (l *Log) setConfirmed(confirmed uint32) error {
	former := l.confirmed
	l.confirmed = confirmed
	err := l.saveState(false)
	if err != nil && l.hints.removeState() != nil {
		l.confirmed = former
		return err
	}
	return nil
}
