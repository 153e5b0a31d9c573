// SPDX-License-Identifier: Apache-2.0

package journal

// This file is what whoever delivers needs beside Next and Handled.

import (
	"math"

	"github.com/udsipc/udsipc/internal/segment"
)

// Rewind makes Next begin again with the first message that is not handled. Next must not run.
func (l *Log) Rewind() {
	l.cursor.close()
	l.cursor = cursor{walk: walk{reader: l.cursor.reader}}
}

// SentBefore returns the largest number of a writer that a former process may have sent, or 0.
func (l *Log) SentBefore(writer segment.WriterID) (number uint64) { return l.sentBefore[writer] }

// Unhandled returns the first number of a writer that is not handled, whether its message can be read or not.
func (l *Log) Unhandled(writer segment.WriterID) (number uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range l.segments {
		if p.writer == writer && l.unhandledLocked(p) < p.end {
			return l.unhandledLocked(p)
		}
	}
	return math.MaxUint64
}

// noteSent notes what former processes may have sent. It is part of Open.
func (l *Log) noteSent() {
	l.sentBefore = map[segment.WriterID]uint64{}
	for _, p := range l.segments {
		l.sentBefore[p.writer] = max(l.sentBefore[p.writer], p.end-1)
	}
}

// Seal ends Append: a later one is ErrClosed. Those that have begun are over when Seal returns.
func (l *Log) Seal() {
	l.io.Lock()
	defer l.io.Unlock()
	l.sealed = true
}
