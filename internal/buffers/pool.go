// SPDX-License-Identifier: Apache-2.0

// Package buffers is the only buffer pool of the module. It has buffers in size classes for the
// chunks of queues and for the reads of connections. A buffer belongs to the goroutine that got it,
// until Put.
package buffers

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	minBufferClass = 9
	maxBufferClass = 24

	MinSize = 1 << minBufferClass // 512 bytes, the smallest class: what a connection keeps while a frame stalls.
	MaxSize = 1 << maxBufferClass // 16 MiB, the largest pooled class; the garbage collector frees larger buffers.
)

// classSteps is the number of classes for each power of two. A buffer is at most an eighth larger
// than requested. The limits of a queue count the requested size.
const classSteps = 8

// A Buffer is a piece of pooled memory. The goroutine that got it owns it until Put. The length of
// B is the size of its class.
type Buffer struct {
	B       []byte
	Refs    int          // Number of queue segments in B. Used by the owner; 0 in the pool.
	holders atomic.Int32 // Number of holders of a shared buffer; 0 for one owner, and in the pool.
}

// bufferPools has one pool for each class, so that a request never gets a buffer much larger than
// requested. The pools hold pointers, because a slice in an interface would be allocated.
var bufferPools [(maxBufferClass-minBufferClass)*classSteps + 1]sync.Pool

// Class returns the exponent of the smallest power of two that holds size bytes.
func Class(size int) int {
	if size <= MinSize {
		return minBufferClass
	}
	return bits.Len(uint(size - 1))
}

// Size returns the length of a buffer for size bytes and the index of its pool; -1 means no pool.
func Size(size int) (length, pool int) {
	class := Class(size)
	switch {
	case class == minBufferClass:
		return MinSize, 0
	case class > maxBufferClass:
		return size, -1
	}
	below := 1 << (class - 1)
	unit := below / classSteps
	step := (size - below + unit - 1) / unit
	return below + step*unit, (class-1-minBufferClass)*classSteps + step
}

// Get returns a buffer of at least size bytes. Its content is undefined.
func Get(size int) *Buffer {
	length, pool := Size(size)
	if pool >= 0 {
		if buf, ok := bufferPools[pool].Get().(*Buffer); ok {
			return buf
		}
	}
	return &Buffer{B: make([]byte, length)}
}

// Share makes the owner of an unshared buffer its only holder. A shared buffer is not passed to Put, but
// released by each holder.
func (b *Buffer) Share() { b.holders.Store(1) }

// Hold adds a holder to a shared buffer. Only a holder may call it.
func (b *Buffer) Hold() { b.holders.Add(1) }

// Unshare ends the sharing if the caller, a holder, is the only one: it owns the buffer again.
func (b *Buffer) Unshare() bool {
	if b.holders.Load() != 1 {
		return false
	}
	b.holders.Store(0)
	return true
}

// Release removes a holder of a shared buffer. The last one returns the buffer to its pool.
func (b *Buffer) Release() {
	if b.holders.Add(-1) == 0 {
		Put(b)
	}
}

// Bytes returns the memory of the buffer.
func (b *Buffer) Bytes() []byte { return b.B }

// Put returns a buffer to its pool. Its bytes must not be used afterwards. A nil buffer is ignored.
func Put(buf *Buffer) {
	if buf == nil {
		return
	}
	if _, pool := Size(len(buf.B)); pool >= 0 {
		bufferPools[pool].Put(buf)
	}
}
