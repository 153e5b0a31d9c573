// SPDX-License-Identifier: Apache-2.0

package queue

// This file enqueues a message without a copy: the caller has written it into memory of the pool, and
// gives that to the queue.

import (
	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/errdefs"
	"github.com/udsipc/udsipc/internal/wire"
)

// A Buffer is memory for EnqueueBuffer.
type Buffer = buffers.Buffer

// NewBuffer returns memory for at least size bytes, with the caller as its only holder.
func NewBuffer(size int) *Buffer {
	b := buffers.Get(size)
	b.Share()
	return b
}

// EnqueueBuffer is Enqueue for the message b.B[from:to]. The caller is the only holder of b; the
// queue owns b afterwards, unless there is an error. Before the message, b has wire.MaxPrefixSize bytes
// for the prefix. A message smaller than half of b is copied, so that the queue holds at most twice
// the bytes that it counts.
func (q *Queue) EnqueueBuffer(b *Buffer, from, to int) (number uint64, idle bool, err error) {
	data := b.B[from:to]
	if 2*len(data) < len(b.B) {
		if number, idle, err = q.Enqueue(data); err == nil {
			b.Release()
		}
		return number, idle, err
	}
	size := wire.FrameSize(len(data))
	q.lock()
	now, err := q.admitLocked(1, size, false)
	if err != nil {
		if err == errdefs.ErrBufferFull {
			q.counts.Refused++
			err = q.fullErrLocked(1, size)
		}
		q.mu.Unlock()
		return 0, false, err
	}
	b.Unshare()
	from = to - size
	wire.AppendPrefix(b.B[from:from], len(data))
	q.counts.Accepted++
	q.largest = max(q.largest, uint64(len(data)))
	q.appendChunkLocked(b, from, size, 1, now)
	q.open = false
	if q.shared != nil {
		q.chargeLocked()
	}
	number = q.counts.Accepted
	idle, q.senderIdle = q.senderIdle, false
	q.mu.Unlock()
	return number, idle, nil
}
