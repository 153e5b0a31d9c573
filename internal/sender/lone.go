// SPDX-License-Identifier: Apache-2.0

package sender

// This file saves a lone message the way through the loop's goroutine: a producer that finds the
// loop idle writes its message itself, if the socket takes it at once. In a burst the loop writes,
// many messages with one system call.

import (
	"sync/atomic"
	"time"
)

const (
	// loneInterval is the least time between two messages that find the loop idle, for the second
	// one to be lone.
	loneInterval = 50 * time.Microsecond
	// maxLone is the largest frame of a lone message. Its producer copies it to the socket, 5 µs for
	// 64 KiB, so that it arrives in less than half of the time.
	maxLone = 65 << 10
)

// A loneClock tells lone messages from those of a burst.
type loneClock struct {
	began    time.Time
	idleSeen atomic.Int64 // When a message last found the loop idle, in nanoseconds since began.
}

// isLone reports whether the message that has just found the loop idle is the first one for a
// while.
func (w *loneClock) isLone() bool {
	now := int64(time.Since(w.began))
	return now-w.idleSeen.Swap(now) >= int64(loneInterval)
}

// wake has what is queued written, by the caller or by the loop's goroutine. A message has found
// the loop idle.
func (l *Loop) wake() {
	if !l.lone.isLone() || !l.turn.mu.TryLock() {
		l.queue.Signal()
		return
	}
	done := l.writeLone()
	l.turn.mu.Unlock()
	if !done {
		l.queue.Signal()
	}
}

// writeLone writes what is queued, unless that could wait. It reports whether nothing is left for
// the loop. The caller has the turn.
func (l *Loop) writeLone() (done bool) {
	o := l.turn.conn
	if o == nil || o.IsSession() {
		return false
	}
	var slot [1][]byte
	bufs := l.queue.NextBatch(slot[:0], maxLone)
	if len(bufs) == 0 || len(bufs[0]) > maxLone {
		l.queue.PutBack()
		return false
	}
	n, err := o.TryWrite(bufs[0])
	l.noteWritten(o, n)
	return err == nil && l.queue.MarkIdle() && !l.hasDropped()
}
