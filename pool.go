// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is the module's only pool of bytes: the chunks of a Writer's queue and the read buffers
// of a Reader's connections come from here and go back here.

import (
	"math/bits"
	"sync"
)

const (
	minBufferClass = 9
	maxBufferClass = 24

	minBufferSize = 1 << minBufferClass // 512 bytes, the smallest class: what a connection keeps of a frame that stalls.
	maxBufferSize = 1 << maxBufferClass // 16 MiB, the largest class that is kept; a larger buffer is left to the collector.
)

// classSteps is how many classes there are from one power of two to the next: a buffer is at most an eighth
// larger than what it was asked for, which is what the bounds of a queue count.
const classSteps = 8

// A buffer is a piece of pooled memory. Whoever got it owns it until it is put back; its length is
// that of its class, bufferSize.
type buffer struct {
	b    []byte
	refs int // How many segments of a queue lie in b. The owner's, 0 in the pool.
}

// bufferPools has one pool for each class, so that a request never gets a buffer that is much larger
// than what it asked for. They hold pointers, because a slice in an interface would be allocated.
var bufferPools [(maxBufferClass-minBufferClass)*classSteps + 1]sync.Pool

// bufferClass returns the exponent of the smallest power of two that holds size bytes.
func bufferClass(size int) int {
	if size <= minBufferSize {
		return minBufferClass
	}
	return bits.Len(uint(size - 1))
}

// bufferSize returns the length of a buffer of size bytes or more, and which pool it is from; -1 for none.
func bufferSize(size int) (length, pool int) {
	class := bufferClass(size)
	switch {
	case class == minBufferClass:
		return minBufferSize, 0
	case class > maxBufferClass:
		return size, -1
	}
	below := 1 << (class - 1)
	unit := below / classSteps
	step := (size - below + unit - 1) / unit
	return below + step*unit, (class-1-minBufferClass)*classSteps + step
}

// getBuffer returns a buffer of size bytes or more. Its content is undefined.
func getBuffer(size int) *buffer {
	length, pool := bufferSize(size)
	if pool >= 0 {
		if buf, ok := bufferPools[pool].Get().(*buffer); ok {
			return buf
		}
	}
	return &buffer{b: make([]byte, length)}
}

// putBuffer gives a buffer back. Nobody may use its bytes afterwards. A nil buffer is ignored.
func putBuffer(buf *buffer) {
	if buf == nil {
		return
	}
	if _, pool := bufferSize(len(buf.b)); pool >= 0 {
		bufferPools[pool].Put(buf)
	}
}
