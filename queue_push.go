// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the near end of the queue: how a message gets in, or is refused, or waits for room.

import (
	"context"
	"fmt"
	"time"
)

// push copies data into the queue, or returns ErrBufferFull, ErrMessageTooLarge or ErrStopped.
func (q *queue) push(data []byte) error {
	_, idle, err := q.put(data)
	if idle {
		q.signal()
	}
	return err
}

// put is push for a queue without a goroutine that drains it: idle says that nobody does, and that the caller
// has to. It also returns the number of the message.
func (q *queue) put(data []byte) (number uint64, idle bool, err error) {
	own := ownChunk(data)
	q.lock()
	err = q.offerLocked(data, own)
	if err == ErrBufferFull {
		q.counts.refused++
	}
	number = q.counts.accepted
	idle = q.unlock(err)
	if err != nil {
		putBuffer(own)
	}
	return number, idle, err
}

// putControl is put for a message that the bounds do not hold for: it is refused only once the queue is closed.
func (q *queue) putControl(data []byte) (number uint64, idle bool, err error) {
	own := ownChunk(data)
	q.lock()
	if q.closed {
		err = ErrStopped
	} else {
		q.appendLocked(data, frameSize(len(data)), own, q.nowLocked())
	}
	number = q.counts.accepted
	idle = q.unlock(err)
	if err != nil {
		putBuffer(own)
	}
	return number, idle, err
}

// awaitRoom returns nil if the queue is below its bounds, and otherwise a channel that is closed once there is room, or
// the queue is.
func (q *queue) awaitRoom() <-chan struct{} {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed || q.fitsLocked(0) {
		return nil
	}
	if q.room == nil {
		q.room = make(chan struct{})
	}
	return q.room
}

// pushWait is push, but waits for room until ctx ends.
func (q *queue) pushWait(ctx context.Context, data []byte) error {
	_, idle, err := q.putWait(ctx, data)
	if idle {
		q.signal()
	}
	return err
}

// putWait is put, but waits for room until ctx ends.
func (q *queue) putWait(ctx context.Context, data []byte) (number uint64, idle bool, err error) {
	own := ownChunk(data)
	for {
		q.lock()
		err := q.offerLocked(data, own)
		if err != ErrBufferFull {
			number = q.counts.accepted
			idle = q.unlock(err)
			if err != nil {
				putBuffer(own)
			}
			return number, idle, err
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()

		select {
		case <-room:
		case <-ctx.Done():
			putBuffer(own)
			q.mu.Lock()
			q.counts.refused++
			q.mu.Unlock()
			return 0, false, fmt.Errorf("%w: %w", ErrBufferFull, context.Cause(ctx))
		}
	}
}

// lock is for producers: with several, to try for a moment costs less than to be put to sleep, because
// the lock is held for no longer than a copy takes.
func (q *queue) lock() {
	for range 30 {
		if q.mu.TryLock() {
			return
		}
	}
	q.mu.Lock()
}

// unlock ends a push, and says whether the goroutine that drains has to be woken. That is done outside the lock,
// which the woken goroutine needs.
func (q *queue) unlock(err error) (idle bool) {
	if idle = err == nil && q.sleeping; idle {
		q.sleeping = false
	}
	q.mu.Unlock()
	return idle
}

// ownChunk frames a message that is larger than a chunk, outside the lock; nil for all others.
func ownChunk(data []byte) *buffer {
	size := frameSize(len(data))
	if size <= chunkSize {
		return nil
	}
	own := getBuffer(size)
	appendFrame(own.b[:0], data)
	return own
}

// offerLocked appends data if the bounds allow it, and makes room first where the options say so.
func (q *queue) offerLocked(data []byte, own *buffer) error {
	if q.closed {
		return ErrStopped
	}
	size := frameSize(len(data))
	if uint64(size) > q.maxBytes {
		return fmt.Errorf("%w: %d bytes in a queue of %d (WithMaxBufferedBytes)", ErrMessageTooLarge, size, q.maxBytes)
	}
	var now time.Duration
	if q.maxAge > 0 {
		now = time.Since(q.epoch)
	}
	if !q.fitsLocked(size) && !q.makeRoomLocked(size, now) {
		return ErrBufferFull
	}
	q.appendLocked(data, size, own, now)
	return nil
}

func (q *queue) fitsLocked(size int) bool {
	return q.counts.queued < q.maxMessages && q.counts.queuedBytes+uint64(size) <= q.maxBytes
}
