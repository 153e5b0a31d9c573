// SPDX-License-Identifier: Apache-2.0

package journal

// This file makes room where there is none: it drops the oldest segment, or a last one of which all is handled.

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/udsipc/udsipc/internal/disk"
	"github.com/udsipc/udsipc/internal/segment"
)

// takeFirstLocked takes the oldest segment out of the list, because it has expired or to make room. It counts its
// messages.
func (l *Log) takeFirstLocked(expired bool) *part {
	p := l.segments[0]
	count, gone := &l.counts.Dropped, p.messages(l.unhandledLocked(p))
	if expired {
		count = &l.counts.Expired
	}
	*count += gone
	if gone > 0 && l.config.OnGone != nil {
		l.config.OnGone(gone, expired)
	}
	l.leftLocked()
	if l.segments = l.segments[1:]; len(l.segments) > 0 {
		l.finished -= p.size
	}
	p.removed = true
	p.closeFile()
	return p
}

// checkBounds makes room for n more bytes, or returns ErrFull. It drops no message if all of them would not be enough.
// The caller holds io.
func (l *Log) checkBounds(n int64, now time.Time) error {
	free := uint64(0)
	for {
		lacking, err := l.exceeded(n, &free, now)
		if lacking == 0 {
			return err
		}
		l.mu.Lock()
		helps, active := lacking <= uint64(l.bytesLocked()), l.active
		l.mu.Unlock()
		p, dropErr := l.drop(helps && l.config.DropOldest)
		switch {
		case dropErr != nil:
			return fmt.Errorf("%w: %w", err, dropErr)
		case p == nil:
			return err
		case p == active:
			n += segment.HeaderSize // Of the next one.
		}
		if !p.damaged {
			free += uint64(p.size)
		}
	}
}

// exceeded returns how many bytes are lacking for n more, and which bound that is. free is how many the file system
// has at least: it may not tell at once that a file was removed.
func (l *Log) exceeded(n int64, free *uint64, now time.Time) (lacking uint64, err error) {
	l.mu.Lock()
	bytes := l.bytesLocked()
	l.mu.Unlock()
	if over := bytes + n - l.config.MaxBytes; over > 0 {
		err = fmt.Errorf("%w: %d bytes, and %d more, of %d (WithMaxBytes)", ErrFull, bytes, n, l.config.MaxBytes)
		return uint64(over), err
	}
	return l.free.ask(n, free, now)
}

// drop removes the oldest segment, or only a last one of which all is handled: that is in the way of nothing. It
// returns nil if there is none. The caller holds io.
func (l *Log) drop(oldest bool) (*part, error) {
	l.mu.Lock()
	waits := func(p *part) bool { return p.messages(l.unhandledLocked(p)) > 0 }
	if len(l.segments) == 0 || !oldest && slices.ContainsFunc(l.segments, waits) {
		l.mu.Unlock()
		return nil, nil
	}
	if len(l.segments) == 1 {
		l.mu.Unlock()
		// Nothing else would tell which numbers are used.
		if err := l.saveState(false); err != nil {
			return nil, err
		}
		l.mu.Lock()
	}
	if l.segments[0] == l.active {
		l.active = nil
		l.start++
	}
	p := l.takeFirstLocked(false)
	l.mu.Unlock()
	l.discard([]*part{p})
	return p, nil
}

// commitWithRoom is commit. If the disk is full and DropOldest is set, it drops segments until the group has room.
func (l *Log) commitWithRoom(g *group) error {
	for {
		err := l.commit(g)
		if !l.config.DropOldest || !errors.Is(err, disk.ErrFull) || errors.Is(err, disk.ErrFileSize) {
			return err
		}
		if p, dropErr := l.drop(true); p == nil || dropErr != nil {
			return err
		}
	}
}
