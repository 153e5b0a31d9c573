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

// A buffer is a piece of pooled memory. Whoever got it owns it until it is put back; its length is
// its class, a power of two.
type buffer struct {
	b    []byte
	refs int // How many segments of a queue lie in b. The owner's, 0 in the pool.
}

// bufferPools has one pool for each class, so that a request never gets a buffer that is much larger
// than what it asked for. They hold pointers, because a slice in an interface would be allocated.
var bufferPools [maxBufferClass - minBufferClass + 1]sync.Pool

// bufferClass returns the class of the smallest buffer that holds size bytes.
func bufferClass(size int) int {
	if size <= minBufferSize {
		return minBufferClass
	}
	return bits.Len(uint(size - 1))
}

// getBuffer returns a buffer of size bytes or more. Its content is undefined.
func getBuffer(size int) *buffer {
	class := bufferClass(size)
	if class > maxBufferClass {
		return &buffer{b: make([]byte, size)}
	}
	if buf, ok := bufferPools[class-minBufferClass].Get().(*buffer); ok {
		return buf
	}
	return &buffer{b: make([]byte, 1<<class)}
}

// putBuffer gives a buffer back. Nobody may use its bytes afterwards. A nil buffer is ignored.
func putBuffer(buf *buffer) {
	if buf == nil || len(buf.b) > maxBufferSize {
		return
	}
	bufferPools[bufferClass(len(buf.b))-minBufferClass].Put(buf)
}
