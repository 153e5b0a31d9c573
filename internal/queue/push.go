// SPDX-License-Identifier: Apache-2.0

package queue

// This file enqueues messages: it accepts them, refuses them, or waits for room.

import (
	"context"
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// EnqueueAndWake copies data into the queue and wakes the send loop. The error matches ErrBufferFull,
// ErrMessageTooLarge or ErrStopped.
func (q *Queue) EnqueueAndWake(data []byte) error {
	_, idle, err := q.Enqueue(data)
	if idle {
		q.wakeSender()
	}
	return err
}

// Enqueue is EnqueueAndWake for a queue without a send loop. If idle is true, no goroutine sends,
// and the caller must send. It also returns the sequence number of the message.
func (q *Queue) Enqueue(data []byte) (number uint64, idle bool, err error) {
	size := wire.FrameSize(len(data))
	q.lock()
	now, err := q.admitLocked(1, size, false)
	if err != nil {
		if err == errdefs.ErrBufferFull {
			q.counts.Refused++
			q.endOfferLocked()
			err = q.fullErrLocked(1, size)
		}
		q.mu.Unlock()
		return 0, false, err
	}
	return q.enqueueAndUnlock(data, size, now, wait{})
}

// EnqueueControl is EnqueueUnbounded for a message that concerns the current connection only.
// DropControl may drop it after that connection.
func (q *Queue) EnqueueControl(data []byte) (number uint64, idle bool, err error) {
	q.lock()
	if q.closed {
		q.mu.Unlock()
		return 0, false, errdefs.ErrStopped
	}
	size := wire.FrameSize(len(data))
	// A larger message gets its number later, so DropControl keeps it.
	if next := q.counts.Accepted + 1; size <= ChunkSize {
		if q.controlTo != next-1 {
			q.controlFrom = next
		}
		q.controlTo = next
	}
	return q.enqueueAndUnlock(data, size, q.ageLocked(), wait{})
}

// EnqueueUnbounded is Enqueue without the limits of the queue. It refuses a message only when the
// queue is closed.
func (q *Queue) EnqueueUnbounded(data []byte) (number uint64, idle bool, err error) {
	q.lock()
	if q.closed {
		q.mu.Unlock()
		return 0, false, errdefs.ErrStopped
	}
	return q.enqueueAndUnlock(data, wire.FrameSize(len(data)), q.ageLocked(), wait{})
}

// EnqueueWaitAndWake is EnqueueAndWake, but waits for room until ctx ends.
func (q *Queue) EnqueueWaitAndWake(ctx context.Context, data []byte) error {
	_, idle, err := q.EnqueueWait(ctx, data)
	if idle {
		q.wakeSender()
	}
	return err
}

// EnqueueWait is Enqueue, but waits for room until ctx ends.
func (q *Queue) EnqueueWait(ctx context.Context, data []byte) (number uint64, idle bool, err error) {
	size := wire.FrameSize(len(data))
	waits := waitOf(ctx)
	q.lock()
	now, err := q.admitLocked(1, size, true)
	switch {
	case err == nil && q.takesLoanLocked(size):
		return q.lendAndUnlock(waits, data, size), false, nil
	case err == nil:
		return q.enqueueAndUnlock(data, size, now, waits)
	}
	if err != errdefs.ErrBufferFull {
		q.mu.Unlock()
		return 0, false, err
	}
	result := q.awaitRoomAndUnlock(ctx, waits, q.addProducerLocked(data, size))
	if result.number == 0 && result.err == nil {
		q.lock()
		if q.takesLoanLocked(size) {
			q.unreserveLocked(1, size)
			return q.lendAndUnlock(waits, data, size), false, nil
		}
		q.mu.Unlock()
		return q.enqueueReserved(data, size, waits)
	}
	return result.number, result.idle, result.err
}

// awaitRoomAndUnlock waits in line until p is served, or ctx ends. It unlocks the queue.
func (q *Queue) awaitRoomAndUnlock(ctx context.Context, waits wait, p *fifoElement[producer]) enqueueResult {
	q.watchPaceLocked()
	if q.shared != nil {
		q.serveWaitersLocked() // Also registers with the shared limit.
	}
	q.writeInLineAndUnlock(waits, p)
	select {
	case <-p.value.done:
	case <-waits.done:
		if full := q.removeProducer(p); full != nil {
			q.recycleProducer(p)
			return enqueueResult{err: fmt.Errorf("%w: %w", full, errdefs.EndOf(ctx))}
		}
		<-p.value.done
	}
	result := p.value.result
	q.recycleProducer(p)
	return result
}

// admitLocked returns nil if so many messages with frames of size bytes may enter now. It drops
// messages first if the options allow that. No producer overtakes those that wait for room. A
// producer that can wait is paced.
func (q *Queue) admitLocked(count uint64, size int, canWait bool) (now time.Duration, err error) {
	if q.closed {
		return 0, errdefs.ErrStopped
	}
	if uint64(size) > q.maxBytes {
		return 0, fmt.Errorf("%w: %d bytes in a queue of %d (WithMaxBufferedBytes)",
			errdefs.ErrMessageTooLarge, size, q.maxBytes)
	}
	if count > q.maxMessages {
		return 0, fmt.Errorf("%w: %d messages at once in a queue of %d (WithMaxBufferedWrites)",
			errdefs.ErrMessageTooLarge, count, q.maxMessages)
	}
	if canWait && q.pacesLocked(size) {
		return 0, errdefs.ErrBufferFull
	}
	if q.producers.first != nil && (canWait || !q.serveUnpacedLocked()) {
		return 0, errdefs.ErrBufferFull
	}
	now = q.ageLocked()
	if q.fitsLocked(count, size) || canWait && q.fitsPacedLocked(size) {
		return now, nil
	}
	ok := q.makeSpaceLocked(count, size, now)
	q.serveWaitersLocked()
	if !ok {
		return 0, errdefs.ErrBufferFull
	}
	return now, nil
}

// enqueueAndUnlock appends an admitted message and unlocks the queue. For a message larger than a
// chunk it reserves the room first, and copies the message outside the lock. A producer that may
// wait may take a turn.
func (q *Queue) enqueueAndUnlock(data []byte, size int, now time.Duration, waits wait) (
	number uint64, idle bool, err error,
) {
	if size > ChunkSize {
		q.reserveLocked(1, size)
		q.mu.Unlock()
		return q.enqueueReserved(data, size, waits)
	}
	q.appendLocked(data, size, nil, now)
	if q.shared != nil {
		q.chargeLocked()
	}
	number, idle = q.finishPushAndUnlock(waits)
	return number, idle, nil
}

// finishPushAndUnlock is the end of a push. It unlocks the queue, and takes a turn if there is one.
func (q *Queue) finishPushAndUnlock(waits wait) (number uint64, idle bool) {
	number = q.counts.Accepted
	idle, q.senderIdle = q.senderIdle, false
	turn := false
	if q.turns.offered {
		if turn = waits.may && q.takesTurnLocked(turnBytes); !waits.may {
			q.endOfferLocked()
		}
	}
	q.mu.Unlock()
	if turn {
		q.turns.write(waits.done)
	}
	return number, idle
}

// reserveLocked keeps room for so many messages with frames of size bytes until unreserveLocked.
func (q *Queue) reserveLocked(count uint64, size int) {
	q.reserved += count
	q.reservedBytes += uint64(size)
	q.chargeLocked()
}

// unreserveLocked is called right before the messages are enqueued, or are given up.
func (q *Queue) unreserveLocked(count uint64, size int) {
	q.reserved -= count
	q.reservedBytes -= uint64(size)
}

// enqueueReserved appends a message for which reserveLocked has kept room.
func (q *Queue) enqueueReserved(data []byte, size int, waits wait) (number uint64, idle bool, err error) {
	own := buffers.Get(size)
	wire.AppendFrame(own.B[:0], data)
	q.lock()
	q.unreserveLocked(1, size)
	if q.closed {
		q.chargeLocked()
		q.mu.Unlock()
		buffers.Put(own)
		return 0, false, errdefs.ErrStopped
	}
	q.appendLocked(data, size, own, q.ageLocked())
	number, idle = q.finishPushAndUnlock(waits)
	return number, idle, nil
}

// lock locks the queue for a producer. The lock is held only while a message is copied. With
// several producers, a few attempts therefore cost less than a sleep. After that, one producer at a
// time waits for the lock, and the others wait for that one. If many slept on the queue's lock itself,
// it would be handed from one to the next for each message (sync.Mutex, starvation mode).
func (q *Queue) lock() {
	for range 30 {
		if q.mu.TryLock() {
			return
		}
	}
	q.gate.Lock()
	q.mu.Lock()
	q.gate.Unlock()
}
