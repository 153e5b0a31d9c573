// SPDX-License-Identifier: Apache-2.0

package journal

// This file counts damage and tells of it.

import (
	"slices"
	"strings"

	"github.com/udsipc/udsipc/internal/segment"
)

const (
	badSuffix = ".bad"

	// maxBad is how many damaged segments are kept: those with the largest names, which are the newest. MaxBytes
	// does not count them.
	maxBad = 16
)

// keep keeps a damaged segment under another name.
func (l *Log) keep(name string) {
	if l.disk.Rename(name, name+badSuffix) != nil {
		return // The next start finds it again.
	}
	entries, err := l.disk.List()
	if err != nil {
		return
	}
	var bad []string
	for _, entry := range entries {
		kept, is := strings.CutSuffix(entry.Name, badSuffix)
		if _, _, ok := segment.ParseName(kept); is && ok {
			bad = append(bad, entry.Name)
		}
	}
	for _, old := range bad[:max(0, len(bad)-maxBad)] {
		l.disk.Remove(old)
	}
}

// report counts damage and tells of it. Before the identity is welcomed, it returns false and does nothing: after a
// loss of power, a segment whose messages were handled may have come back in part, because what is handled is
// neither synced nor removed for certain. The reader knows.
func (l *Log) report(p *part, d Damage) bool {
	l.mu.Lock()
	if slices.ContainsFunc(p.found, d.equals) {
		l.mu.Unlock()
		return true // Next has read it again, after Rewind.
	}
	_, is := l.damagedFromLocked(p, d)
	if is && p.writer != l.welcomed {
		l.mu.Unlock()
		return false
	}
	p.found = append(p.found, d)
	l.mu.Unlock()
	l.reportNow(p, d)
	return true
}

// equals reports whether both are the same part of one segment.
func (d Damage) equals(other Damage) bool {
	return d.From == other.From && d.To == other.To && d.Bytes == other.Bytes
}

// damagedFromLocked returns the first number of damage that is not handled. Damage of what is handled is none, nor is
// that of a removed segment.
func (l *Log) damagedFromLocked(p *part, d Damage) (from uint64, is bool) {
	from = max(d.From, l.unhandledLocked(p))
	return from, !p.removed && (from < d.To || from == d.To && d.From == d.To)
}

// reportNow counts damage and tells of it.
func (l *Log) reportNow(p *part, d Damage) {
	l.mu.Lock()
	from, is := l.damagedFromLocked(p, d)
	if !is {
		l.mu.Unlock()
		return
	}
	before := p.messages(from)
	p.addGap(gap{from, d.To})
	missing := before - p.messages(from)
	p.damaged = p.damaged || d.Err != nil
	l.counts.Damaged += missing
	l.counts.DamagedBytes += uint64(d.Bytes)
	if missing > 0 {
		l.leftLocked()
	}
	l.mu.Unlock()
	if (missing > 0 || d.Bytes > 0) && l.config.OnDamage != nil {
		d.From = from
		l.config.OnDamage(d)
	}
}

// addGap adds missing numbers. Gaps are in order, and neither overlap nor touch.
func (p *part) addGap(g gap) {
	if g.from >= g.to {
		return
	}
	p.gaps = slices.DeleteFunc(p.gaps, func(known gap) bool {
		if known.to < g.from || g.to < known.from {
			return false
		}
		g = gap{min(g.from, known.from), max(g.to, known.to)}
		return true
	})
	p.gaps = append(p.gaps, g)
	slices.SortFunc(p.gaps, func(a, b gap) int {
		if a.from < b.from {
			return -1
		}
		return 1
	})
}

// skipGaps returns the first number from from on that is not missing.
func (p *part) skipGaps(from uint64) uint64 {
	for _, g := range p.gaps {
		if g.from <= from && from < g.to {
			from = g.to
		}
	}
	return from
}
