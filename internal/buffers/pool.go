// SPDX-License-Identifier: Apache-2.0

// Package buffers is the module's only pool of bytes: buffers by size class, for the chunks of
// queues and for the reads of connections. A buffer belongs to the goroutine that got it, until
// Put.
package buffers

// This file is the module's only pool of bytes: the chunks of a Writer's queue and the read buffers
// of a Reader's connections come from here and go back here.

import (
	"math/bits"
	"sync"
)

const (
	minBufferClass = 9
	maxBufferClass = 24

	MinSize = 1 << minBufferClass // 512 bytes, the smallest class: what a connection keeps of a frame that stalls.
	MaxSize = 1 << maxBufferClass // 16 MiB, the largest class that is kept; a larger buffer is left to the collector.
)

// classSteps is how many classes there are from one power of two to the next: a buffer is at most an eighth
// larger than what it was asked for, which is what the bounds of a queue count.
const classSteps = 8

// A Buffer is a piece of pooled memory. Whoever got it owns it until it is put back; its length is
// that of its class, Size.
type Buffer struct {
	B    []byte
	Refs int // How many segments of a queue lie in b. The owner's, 0 in the pool.
}

// bufferPools has one pool for each class, so that a request never gets a buffer that is much larger
// than what it asked for. They hold pointers, because a slice in an interface would be allocated.
var bufferPools [(maxBufferClass-minBufferClass)*classSteps + 1]sync.Pool

// Class returns the exponent of the smallest power of two that holds size bytes.
func Class(size int) int {
	if size <= MinSize {
		return minBufferClass
	}
	return bits.Len(uint(size - 1))
}

// Size returns the length of a buffer of size bytes or more, and which pool it is from; -1 for none.
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

// Get returns a buffer of size bytes or more. Its content is undefined.
func Get(size int) *Buffer {
	length, pool := Size(size)
	if pool >= 0 {
		if buf, ok := bufferPools[pool].Get().(*Buffer); ok {
			return buf
		}
	}
	return &Buffer{B: make([]byte, length)}
}

// Put gives a buffer back. Nobody may use its bytes afterwards. A nil buffer is ignored.
func Put(buf *Buffer) {
	if buf == nil {
		return
	}
	if _, pool := Size(len(buf.B)); pool >= 0 {
		bufferPools[pool].Put(buf)
	}
}
