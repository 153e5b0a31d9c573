// SPDX-License-Identifier: Apache-2.0

package journal

// This file drops what is too old, and tells how old the rest is. Only whole segments expire.

import "time"

// Expire drops the segments whose last message is older than Config.MaxAge. Next calls it.
func (l *Log) Expire() {
	if l.config.MaxAge <= 0 {
		return
	}
	now := l.config.Now()
	l.expireFinished(now)
	l.mu.Lock()
	last := l.lastTooOldLocked(now)
	l.mu.Unlock()
	if !last {
		return
	}
	l.io.Lock()
	defer l.io.Unlock()
	if l.closed || l.saveState(false) != nil { // Nothing else would tell which numbers are used.
		return
	}
	l.mu.Lock()
	var expired []*part
	if l.lastTooOldLocked(now) {
		l.active = nil
		l.start++
		expired = append(expired, l.takeFirstLocked(true))
	}
	l.mu.Unlock()
	l.discard(expired)
}

// lastTooOldLocked reports whether the only segment has messages and is too old.
func (l *Log) lastTooOldLocked(now time.Time) bool {
	if len(l.segments) != 1 {
		return false
	}
	p := l.segments[0]
	return l.tooOld(p, now) && p.messages(l.unhandledLocked(p)) > 0
}

// expireFinished is Expire for all segments but the last one.
func (l *Log) expireFinished(now time.Time) {
	if l.config.MaxAge <= 0 {
		return
	}
	l.mu.Lock()
	var expired []*part
	for len(l.segments) > 1 && l.tooOld(l.segments[0], now) {
		expired = append(expired, l.takeFirstLocked(true))
	}
	l.mu.Unlock()
	l.discard(expired)
}

// tooOld reports whether the last message of a part is older than Config.MaxAge.
func (l *Log) tooOld(p *part, now time.Time) bool {
	return l.config.MaxAge > 0 && now.Sub(p.modified) > l.config.MaxAge
}

// oldestLocked returns about when the first message that is not handled was written: as if those of its segment
// had come in regular intervals. It is zero without one.
func (l *Log) oldestLocked() time.Time {
	for _, p := range l.segments {
		if from := l.unhandledLocked(p); from < p.end {
			part := float64(from-p.first) / float64(p.end-p.first)
			return p.begun.Add(time.Duration(part * float64(p.modified.Sub(p.begun))))
		}
	}
	return time.Time{}
}
