// SPDX-License-Identifier: Apache-2.0

package queue

// This file enqueues several messages together: all or none of them, under one lock.

import (
	"context"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// A Batch has messages that are enqueued together. The queue copies them: their memory is the
// caller's again after that call.
type Batch struct {
	Count   uint64 // Messages.
	Size    int    // The bytes of their frames.
	Largest int    // The bytes of the largest message.

	messages [][]byte // Either these, or frames.
	frames   []byte
}

// BatchOfMessages returns a batch of messages. It keeps the slice.
func BatchOfMessages(messages [][]byte) Batch {
	b := Batch{Count: uint64(len(messages)), messages: messages}
	for _, message := range messages {
		b.Size += wire.FrameSize(len(message))
		b.Largest = max(b.Largest, len(message))
	}
	return b
}

// BatchOfFrames returns a batch of messages that are framed already. It keeps the slice. The error
// matches ErrInvalidLengthPrefix.
func BatchOfFrames(frames []byte, count int) (Batch, error) {
	largest, err := wire.CheckFrames(frames, count)
	return Batch{Count: uint64(max(count, 0)), Size: len(frames), Largest: largest, frames: frames}, err
}

// EnqueueBatchAndWake is EnqueueAndWake for a batch, with the same errors.
func (q *Queue) EnqueueBatchAndWake(b Batch) error {
	q.lock()
	now, err := q.admitLocked(b.Count, b.Size, false)
	if err != nil {
		if err == errdefs.ErrBufferFull {
			q.counts.Refused += b.Count
			q.endOfferLocked()
			err = q.fullErrLocked(b.Count, b.Size)
		}
		q.mu.Unlock()
		return err
	}
	q.appendBatchLocked(b, now)
	q.finishBatchAndUnlock(wait{})
	return nil
}

// EnqueueBatchWaitAndWake is EnqueueBatchAndWake, but waits for room until ctx ends.
func (q *Queue) EnqueueBatchWaitAndWake(ctx context.Context, b Batch) error {
	waits := waitOf(ctx)
	q.lock()
	now, err := q.admitLocked(b.Count, b.Size, true)
	if err == errdefs.ErrBufferFull {
		p := q.addProducerLocked(nil, b.Size)
		p.value.batch, p.value.count = true, b.Count
		if err := q.awaitRoomAndUnlock(ctx, waits, p).err; err != nil {
			return err
		}
		q.lock()
		q.unreserveLocked(b.Count, b.Size)
		if now, err = q.ageLocked(), nil; q.closed {
			q.chargeLocked()
			err = errdefs.ErrStopped
		}
	}
	if err != nil {
		q.mu.Unlock()
		return err
	}
	q.appendBatchLocked(b, now)
	q.finishBatchAndUnlock(waits)
	return nil
}

// finishBatchAndUnlock is the end of a push of a batch. It unlocks the queue, and wakes the send loop.
func (q *Queue) finishBatchAndUnlock(waits wait) {
	if q.shared != nil {
		q.chargeLocked()
	}
	if _, idle := q.finishPushAndUnlock(waits); idle {
		q.wakeSender()
	}
}

// appendBatchLocked appends a batch that fits. As for a single message, a frame that would leave much
// of the tail unused gets a chunk of its own.
func (q *Queue) appendBatchLocked(b Batch, now time.Duration) {
	q.largest = max(q.largest, uint64(b.Largest))
	for b.Count > 0 {
		size := b.nextSize()
		full := q.tail == nil || q.filled+size > ChunkSize
		if size > ChunkSize || full && q.tail != nil && size > ChunkSize/2 {
			own := buffers.Get(size)
			b.moveTo(own.B[:0], size)
			q.counts.Accepted++
			q.appendChunkLocked(own, 0, size, 1, now)
			q.open = false
			continue
		}
		if full {
			q.setTailLocked(buffers.Get(ChunkSize))
		}
		q.appendRunLocked(&b, now)
	}
}

// appendRunLocked appends as much of b as fits into the tail, at least one message.
func (q *Queue) appendRunLocked(b *Batch, now time.Duration) {
	from := q.filled
	q.warmLocked(min(b.Size, ChunkSize-from))
	size, count := b.moveTo(q.tail.B[:from], ChunkSize-from)
	q.filled += size
	q.counts.Accepted += uint64(count)
	if q.open {
		last := &q.waiting.segs[len(q.waiting.segs)-1]
		if now-last.queuedAt <= q.ageResolution() {
			last.to = q.filled
			last.count += count
			q.waiting.count += count
			q.waiting.bytes += size
			return
		}
	}
	q.appendChunkLocked(q.tail, from, size, count, now)
	q.open = len(q.waiting.segs) > 0
}

// nextSize returns the size of the next frame.
func (b *Batch) nextSize() int {
	if b.frames == nil {
		return wire.FrameSize(len(b.messages[0]))
	}
	return wire.FramesSize(b.frames, 1)
}

// moveTo appends the next frames of the batch to dst, as many as fit into room bytes. It returns
// their size and count. The batch has the rest.
func (b *Batch) moveTo(dst []byte, room int) (size, count int) {
	switch {
	case b.frames == nil:
		for count < len(b.messages) && size+wire.FrameSize(len(b.messages[count])) <= room {
			size += wire.FrameSize(len(b.messages[count]))
			dst = wire.AppendFrame(dst, b.messages[count])
			count++
		}
		b.messages = b.messages[count:]
	case len(b.frames) <= room:
		size, count = len(b.frames), int(b.Count)
		copy(dst[len(dst):cap(dst)], b.frames)
		b.frames = nil
	default:
		count, size = wire.WholeFrames(b.frames[:room])
		copy(dst[len(dst):cap(dst)], b.frames[:size])
		b.frames = b.frames[size:]
	}
	b.Size -= size
	b.Count -= uint64(count)
	return size, count
}
