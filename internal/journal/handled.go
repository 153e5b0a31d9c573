// SPDX-License-Identifier: Apache-2.0

package journal

// This file removes what is handled. Only whole segments are removed.

import (
	"fmt"
	"slices"

	"github.com/udsipc/udsipc/internal/segment"
)

// Handled tells that the messages of a writer up to a number are handled, but for those that the reader
// has refused and that were handed back: undelivered of the messages that this call releases. A number
// that is not larger than that of the last call is ignored, and so is a writer of which nothing is left.
// Next goes on behind it. A number that no message has yet is ErrAhead, and changes nothing.
func (l *Log) Handled(writer segment.WriterID, number, undelivered uint64) error {
	l.mu.Lock()
	if next := l.next; writer == l.writer && number >= next {
		l.mu.Unlock()
		return fmt.Errorf("%w: it has handled message %d, the next one is %d", ErrAhead, number, next)
	}
	released, empty := l.releaseLocked(writer, number)
	undelivered = min(undelivered, released)
	l.counts.Undelivered += undelivered
	l.counts.Sent += released - undelivered
	l.mu.Unlock()
	l.discard(empty)
	return nil
}

// releaseLocked notes that the messages of a writer up to a number are handled. It returns how many were
// waiting, and the segments without messages, which it has taken out of the list.
func (l *Log) releaseLocked(writer segment.WriterID, number uint64) (released uint64, empty []*part) {
	if !l.ownsLocked(writer) || writer == l.handled.Writer && number <= l.handled.Number {
		return 0, nil
	}
	parts := l.segments
	if writer == l.handled.Writer {
		// Of the segments behind this number nothing changes, and there may be thousands. One that a copy has
		// replaced may have a larger first number than those behind it.
		behind := slices.IndexFunc(parts, func(p *part) bool {
			return p.writer == writer && p.first > number && p.first < p.end
		})
		if behind > 0 {
			parts = parts[:behind]
		}
	}
	before := l.waitingLocked(parts)
	if writer != l.handled.Writer {
		// What is handled of the former writer stays so. What is left of it comes again after the next start.
		for _, p := range l.segments {
			if p.writer == l.handled.Writer {
				p.addGap(gap{p.first, l.unhandledLocked(p)})
			}
		}
	}
	l.handled = segment.Handled{Writer: writer, Number: number}
	released = before - l.waitingLocked(parts)
	if released > 0 {
		l.leftLocked()
	}
	l.startTimerLocked()
	if n := len(l.segments); n > 0 && l.segments[n-1].messages(l.unhandledLocked(l.segments[n-1])) == 0 {
		l.roomLocked() // The last one stays until somebody needs its room.
	}
	if slices.ContainsFunc(parts, func(p *part) bool { return p.messages(l.unhandledLocked(p)) == 0 }) {
		empty = l.takeHandledLocked()
	}
	return released, empty
}

// ownsLocked reports whether a writer is that of new messages, or of a segment.
func (l *Log) ownsLocked(writer segment.WriterID) bool {
	return writer == l.writer || slices.ContainsFunc(l.segments, func(p *part) bool { return p.writer == writer })
}

// waitingLocked returns how many messages of some segments are not handled.
func (l *Log) waitingLocked(parts []*part) (n uint64) {
	for _, p := range parts {
		n += p.messages(l.unhandledLocked(p))
	}
	return n
}

// takeHandledLocked takes the segments without messages out of the list, up to the first one with messages: Left
// counts those behind it. The last one stays: its name tells the next process which numbers are used.
func (l *Log) takeHandledLocked() (taken []*part) {
	if len(l.segments) == 0 {
		return nil
	}
	last := l.segments[len(l.segments)-1]
	waits := false
	l.segments = slices.DeleteFunc(l.segments, func(p *part) bool {
		if p == last || p.messages(l.unhandledLocked(p)) > 0 {
			waits = true
		}
		if waits {
			return false
		}
		taken = append(taken, p)
		return true
	})
	l.sumLocked()
	for _, p := range taken {
		p.removed = true
		p.closeFile()
	}
	return taken
}

// discard removes the files of segments that were taken out of the list, and tells that there is room. A file that
// cannot be removed is found, and passed over as handled, by the next process.
func (l *Log) discard(parts []*part) {
	if len(parts) == 0 {
		return
	}
	for _, p := range parts {
		if p.damaged {
			l.keep(p.name)
		} else {
			l.disk.Remove(p.name)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.roomLocked()
}

// closeFile closes the file with which a part was written.
func (p *part) closeFile() {
	if p.file != nil {
		p.file.Close()
		p.file = nil
	}
}
