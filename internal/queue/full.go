// SPDX-License-Identifier: Apache-2.0

package queue

// This file has the error of a full queue: it names the limit that was met.

import "github.com/udsipc/udsipc/internal/errdefs"

// The limits of a queue.
const (
	limitMessages = iota
	limitBytes
	limitShared
	numLimits
)

// fullErrs are the errors of a full queue. Each is made once, so that a refused message costs no memory.
type fullErrs [numLimits]*errdefs.BufferFull

// fullErrLocked returns the error for messages with frames of size bytes that do not fit, or that
// must not overtake the producers that wait.
func (q *Queue) fullErrLocked(count uint64, size int) error {
	if first := q.producers.first; first != nil {
		count, size = max(count, first.value.count), max(size, first.value.size)
	}
	switch {
	case q.queuedLocked()+q.reserved+count > q.maxMessages:
		return q.fullErrs.of(limitMessages, q.maxMessages, "messages (WithMaxBufferedWrites)")
	case q.heldBytesLocked()+uint64(size) > q.maxBytes:
		return q.fullErrs.of(limitBytes, q.maxBytes, "bytes (WithMaxBufferedBytes)")
	case q.shared != nil:
		return q.fullErrs.of(limitShared, uint64(q.shared.limit), "bytes of all connections (WithMaxSendMemory)")
	}
	return errdefs.ErrBufferFull
}

func (e *fullErrs) of(limit int, value uint64, unit string) error {
	if e[limit] == nil {
		e[limit] = &errdefs.BufferFull{Limit: value, Unit: unit}
	}
	return e[limit]
}

// DropErr returns the error for messages that were dropped to make room. It names the limit that was
// met last.
func (q *Queue) DropErr() error {
	q.mu.Lock()
	defer q.mu.Unlock()
	return errdefs.First(q.dropErr, errdefs.ErrBufferFull)
}
