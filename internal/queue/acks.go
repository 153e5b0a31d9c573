// SPDX-License-Identifier: Apache-2.0

package queue

// This file has the acknowledgements: what a reader may acknowledge, and what the queue then does.

import (
	"fmt"
	"slices"

	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// A sequence numbers the messages in the order in which they are first sent. A message that is
// dropped before that leaves no gap. The reader counts with the same numbers.
type sequence struct {
	Acked       uint64 // All messages up to this one have left the queue.
	sent        uint64 // The current connection has taken all up to this one, to the last byte.
	HighestSent uint64 // Some connection has taken all up to this one.
}

// Sequence returns the numbers for the hello of the next connection.
func (q *Queue) Sequence() sequence {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seq
}

// Unacknowledged returns how many messages the current connection has taken and the reader has not
// acknowledged.
func (q *Queue) Unacknowledged() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.seq.sent - q.seq.Acked
}

// ApplyWelcome begins a connection with the numbers of its welcome. It removes the messages up to
// handled, the last one that the reader has handled. NextBatch then continues after it.
func (q *Queue) ApplyWelcome(handled, limit uint64) (released uint64, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.discarded {
		return 0, errdefs.ErrStopped
	}
	q.resumeAfterLocked(handled)
	if handled > q.seq.HighestSent {
		return 0, fmt.Errorf("%w: the reader has handled message %d, but only %d were sent",
			errdefs.ErrInvalidSession, handled, q.seq.HighestSent)
	}
	held := q.seq.Acked + uint64(q.front.count-q.releasedInFirst)
	if handled > held {
		return 0, fmt.Errorf("%w: the reader has handled message %d, but this queue has only those up to %d yet",
			errdefs.ErrInvalidSession, handled, held)
	}
	q.resumed.welcomed = true
	q.readerLimit = limit
	if handled > q.seq.Acked {
		released = handled - q.seq.Acked
		q.releaseLocked(handled)
		q.trimLocked()
		q.seq.sent = handled
	}
	q.counts.Retransmitted += min(q.seq.HighestSent, held) - q.seq.Acked
	return released, nil
}

// Acknowledge removes the messages up to this number from the queue. If the message is still being
// written, early is true, and MarkWritten removes it.
func (q *Queue) Acknowledge(number uint64) (early bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.discarded {
		return false, nil
	}
	if number <= q.earlyAck {
		return false, fmt.Errorf("%w: message %d after message %d", wire.ErrAcknowledgement, number, q.earlyAck)
	}
	if number > q.seq.sent && q.taken > 0 {
		underWay := uint64(0)
		for _, seg := range q.front.segs[q.next:q.taken] {
			underWay += uint64(seg.count)
		}
		if number <= q.seq.sent-uint64(q.writtenFrames)+underWay {
			q.earlyAck = number
			return true, nil
		}
	}
	return false, q.acknowledgeLocked(number)
}

func (q *Queue) acknowledgeLocked(number uint64) error {
	if number <= q.seq.Acked || number > q.seq.sent {
		return fmt.Errorf("%w: message %d, want one of %d to %d", wire.ErrAcknowledgement, number, q.seq.Acked+1, q.seq.sent)
	}
	q.releaseLocked(number)
	if q.emptyLocked() && q.senderIdle {
		q.markIdleLocked() // Releases the chunk that was kept for more messages.
	}
	if q.closed || q.readerLimit > 0 && q.largest > q.readerLimit {
		q.Signal() // The send loop may wait for the last one.
	}
	return nil
}

// RemoveOversized removes the next message if it is over the reader's limit and nothing before it
// is in flight. It returns a copy. burnt reports whether an earlier reader took the message, so
// that it has a number already; a queue that resumes has numbered it anyway. Then the next connection
// must begin with the number after it.
func (q *Queue) RemoveOversized() (data []byte, burnt bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trimLocked()
	head := q.headLocked()
	if q.readerLimit == 0 || q.seq.sent != q.seq.Acked || q.writtenBytes > 0 ||
		len(head.segs) == 0 || q.sendableEndLocked(&head.segs[0]) > head.segs[0].from {
		return nil, false
	}
	data, _ = head.message(0)
	data = slices.Clone(data)
	q.dropMessageLocked(head, 0)
	q.counts.Undelivered++
	if burnt = q.seq.HighestSent > q.seq.Acked || q.resumed.numbered; burnt {
		q.seq.Acked++
		q.seq.sent++
		q.seq.HighestSent = max(q.seq.HighestSent, q.seq.sent)
	}
	q.serveWaitersLocked()
	return data, burnt
}
