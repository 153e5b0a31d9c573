// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"github.com/udsipc/udsipc/internal/buffers"
)

// This file is the buffer of a receiving connection: it grows by what arrives, and is as small as
// what it holds while the connection waits.

const (
	moveOnWait    = 64 << 10 // Up to so many bytes are moved to a smaller buffer for a wait.
	growthFactor  = 4        // How much a buffer may grow once it is full.
	maxSpareRatio = 16       // How much larger than its bytes a waiting buffer may be.
)

// What is moved for a wait ends in a buffer that costs nothing, or is large. No constant of type
// uint64 is negative.
const _ = uint64(moveOnWait - uncountedSize)

// A readBuffer holds the bytes that were read and not handed over yet: buf.B[r:w]. While the connection
// waits for bytes, buf is nil or as small as what it holds.
type readBuffer struct {
	buf            *buffers.Buffer
	r, w           int
	readSize       int // Of a read.
	wantBytes      int // The size of the frame at r, as far as it is known; more than w-r bytes.
	lastLength     int // The length of the last message that was handed over.
	largeFrameSize int // The size of the last frame, if that was larger than readSize.
	lastRead       int // What the last read brought.

	memory      Memory
	reserved    Reservation // For buf.
	waitedFor   uint64      // The number of the message that has waited for memory last.
	justGranted bool        // It has just got some, and nothing was read since.
}

// lastMessage is the message that was handed over last, as long as nothing is read after it.
func (b *readBuffer) lastMessage() []byte {
	return b.buf.B[b.r-b.lastLength : b.r : b.r]
}

// size returns how many bytes were read and are not handed over.
func (b *readBuffer) size() int { return b.w - b.r }

// isHalfEmpty reports whether a buffer that costs something holds less than half of its bytes.
func (b *readBuffer) isHalfEmpty() bool {
	return len(b.buf.B) > uncountedSize && b.size() < len(b.buf.B)/2
}

// ensureBuffer makes room for the next bytes: in a small buffer, or, as long as much comes, in one of the
// size of a read, or a larger one for a larger frame. That grows only when it is full, so a frame
// that is announced and does not come costs nothing. It returns false if there is no room and the
// memory limit is reached: a small buffer is always there. message is the number of the message that is read.
func (b *readBuffer) ensureBuffer(message uint64) bool {
	b.yieldMemory(message)
	size := max(b.readSize, b.largeFrameSize)
	if b.lastRead < uncountedSize && b.largeFrameSize == 0 {
		size = min(size, uncountedSize)
	}
	have := b.w - b.r
	switch {
	case b.buf == nil:
		if !b.memory.TryReserve(&b.reserved, size) {
			size = min(size, uncountedSize)
		}
		b.buf, b.r, b.w = buffers.Get(size), 0, 0
	case len(b.buf.B) < size && b.memory.TryReserve(&b.reserved, size):
		b.move(size)
	case have == 0:
		b.r, b.w = 0, 0
	case have == len(b.buf.B):
		size = b.nextBufferSize()
		if !b.memory.TryReserve(&b.reserved, size) {
			return false
		}
		b.move(size)
	case b.r > 0 && (b.w == len(b.buf.B) || b.r+b.wantBytes > len(b.buf.B)):
		copy(b.buf.B, b.buf.B[b.r:b.w])
		b.r, b.w = 0, have
	}
	return true
}

// nextBufferSize is the size of the next buffer, once one is full.
func (b *readBuffer) nextBufferSize() int {
	size := growthFactor * len(b.buf.B)
	if b.wantBytes > 0 {
		size = min(b.wantBytes, size)
	}
	if len(b.buf.B) < uncountedSize {
		size = min(size, uncountedSize)
	}
	return max(size, len(b.buf.B)+1)
}

// readEnd is how far the buffer may be filled. A frame that is larger than a read is read to its end
// and no further, so that the next one begins at the start of the buffer and needs no copy.
func (b *readBuffer) readEnd() int {
	if b.wantBytes > b.readSize {
		return min(len(b.buf.B), b.r+b.wantBytes)
	}
	return len(b.buf.B)
}

// frameEnd is readEnd for a connection that is handed over: the next process gets all bytes behind
// the frame at r.
func (b *readBuffer) frameEnd() int {
	return min(len(b.buf.B), max(b.r+b.wantBytes, b.w+1))
}

// move puts what is unread into another buffer of size bytes or more.
func (b *readBuffer) move(size int) {
	next := buffers.Get(size)
	have := copy(next.B, b.buf.B[b.r:b.w])
	buffers.Put(b.buf)
	b.buf, b.r, b.w = next, 0, have
}

// shrinkForWait makes the buffer as small as what it holds.
func (b *readBuffer) shrinkForWait() {
	have := b.w - b.r
	switch {
	case b.buf == nil:
	case have == 0:
		b.release()
	case have <= moveOnWait && 1<<buffers.Class(have) < len(b.buf.B), maxSpareRatio*have < len(b.buf.B):
		b.move(have)
		b.memory.TryReserve(&b.reserved, have) // Less than before.
	}
}

// releaseForPause is shrinkForWait for a pause that the peer decides on: unread bytes stay, and no memory is
// reserved for them.
func (b *readBuffer) releaseForPause() {
	have := b.w - b.r
	if have == 0 {
		b.release()
		return
	}
	if 1<<buffers.Class(have) < len(b.buf.B) {
		b.move(have)
	}
	b.memory.Release(&b.reserved, b.reserved.Bytes)
}

// release gives the buffer back.
func (b *readBuffer) release() {
	buffers.Put(b.buf)
	b.buf, b.r, b.w = nil, 0, 0
	b.memory.Release(&b.reserved, b.reserved.Bytes)
}

// abandon is release while the last message may still be in use: the buffer is left to the collector.
func (b *readBuffer) abandon() {
	b.buf, b.r, b.w = nil, 0, 0
	b.memory.Release(&b.reserved, b.reserved.Bytes)
}

// bytes is what was read and is not handed over yet.
func (b *readBuffer) bytes() []byte {
	if b.buf == nil {
		return nil
	}
	return b.buf.B[b.r:b.w]
}
