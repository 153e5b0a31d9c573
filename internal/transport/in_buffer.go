// SPDX-License-Identifier: Apache-2.0

package transport

import (
	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/wire"
)

// This file is the buffer of a receiving connection. It grows with the received bytes, and shrinks
// to them while the connection waits.

const (
	// Largest number of bytes that are moved to a smaller buffer for a wait.
	moveOnWait    = 64 << 10
	growthFactor  = 4  // Factor by which a full buffer grows.
	maxSpareRatio = 16 // Largest ratio of a waiting buffer's size to its bytes.

	// Size of the smallest frame whose copy is worth a shorter read.
	minAlignedFrame = 4 << 10
)

// Bytes that are moved for a wait fit in an uncounted buffer, or are many. The compiler rejects a
// negative uint64.
const _ = uint64(moveOnWait - uncountedSize)

// A readBuffer holds the bytes that were read and not handed over yet: buf.B[r:w]. While the connection
// waits for bytes, buf is nil or as small as what it holds.
type readBuffer struct {
	buf            *buffers.Buffer
	kept           bool // buf is shared: others hold messages in buf.B[:r].
	r, w           int
	readSize       int // Of a read.
	wantBytes      int // Size of the frame at r, as far as it is known; more than w-r bytes.
	lastLength     int // Length of the message that was handed over last.
	largeFrameSize int // Size of the last frame, if it was larger than readSize.
	lastRead       int // Bytes of the last read.

	memory      Memory
	reserved    Reservation // For buf.
	waitedFor   uint64      // Number of the message that last waited for memory.
	justGranted bool        // Memory was just granted, and nothing was read since.
}

// lastMessage returns the message that was handed over last. It is valid until the next read.
func (b *readBuffer) lastMessage() []byte {
	return b.buf.B[b.r-b.lastLength : b.r : b.r]
}

// size returns how many bytes were read and are not handed over.
func (b *readBuffer) size() int { return b.w - b.r }

// isHalfEmpty reports whether a counted buffer holds less than half of its bytes.
func (b *readBuffer) isHalfEmpty() bool {
	return len(b.buf.B) > uncountedSize && b.size() < len(b.buf.B)/2
}

// ensureBuffer provides space for the next bytes. The buffer is small at first, of the size of a
// read while many bytes arrive, and larger for a larger frame. It grows only when it is full: an
// announced frame that does not arrive costs nothing. ensureBuffer returns false if the buffer is
// full and the memory limit is reached. message is the number of the message that is read.
func (b *readBuffer) ensureBuffer(message uint64) bool {
	b.yieldMemory(message)
	if b.kept && b.buf.Unshare() {
		b.kept = false
	}
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
	case have == 0 && !b.kept:
		b.r, b.w = 0, 0
	case have == 0 && b.w > len(b.buf.B)/2:
		b.move(len(b.buf.B)) // The rest is too small for a read.
	case have == len(b.buf.B):
		size = b.nextBufferSize()
		if !b.memory.TryReserve(&b.reserved, size) {
			return false
		}
		b.move(size)
	case b.r > 0 && (b.w == len(b.buf.B) || b.r+b.wantBytes > len(b.buf.B)) && b.kept:
		b.move(len(b.buf.B))
	case b.r > 0 && (b.w == len(b.buf.B) || b.r+b.wantBytes > len(b.buf.B)):
		copy(b.buf.B, b.buf.B[b.r:b.w])
		b.r, b.w = 0, have
	}
	return true
}

// nextBufferSize returns the size of the next buffer when one is full.
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

// readEnd returns the index up to which the buffer may be filled: the last frame boundary in it, if
// the next frames are as large as the last one. What is behind that stays in the socket, and its beginning
// needs no copy to the start of the buffer. A frame larger than a read is read to its end and no further.
func (b *readBuffer) readEnd() int {
	if b.wantBytes > b.readSize {
		return min(len(b.buf.B), b.r+b.wantBytes)
	}
	frame := wire.FrameSize(b.lastLength)
	if frame < minAlignedFrame {
		return len(b.buf.B)
	}
	end := b.r + b.wantBytes
	if b.wantBytes == 0 {
		end += frame
	}
	if end <= b.w || end > len(b.buf.B) {
		return len(b.buf.B)
	}
	return end + (len(b.buf.B)-end)/frame*frame
}

// frameEnd is readEnd for a connection that is handed over: the next process gets all bytes behind
// the frame at r.
func (b *readBuffer) frameEnd() int {
	return min(len(b.buf.B), max(b.r+b.wantBytes, b.w+1))
}

// move copies the buffered bytes to another buffer of size bytes or more.
func (b *readBuffer) move(size int) {
	next := buffers.Get(size)
	have := copy(next.B, b.buf.B[b.r:b.w])
	b.put()
	b.buf, b.r, b.w = next, 0, have
}

// put returns buf to the pool, or leaves it to those who hold messages in it.
func (b *readBuffer) put() {
	if b.kept {
		b.kept = false
		b.buf.Release()
		return
	}
	buffers.Put(b.buf)
}

// keep makes the caller a holder of the buffer: the messages that were handed over stay valid until
// the caller releases it. It returns nil if there is no buffer.
func (b *readBuffer) keep() *buffers.Buffer {
	if b.buf == nil {
		return nil
	}
	if !b.kept {
		b.kept = true
		b.buf.Share()
	}
	b.buf.Hold()
	return b.buf
}

// shrinkForWait shrinks the buffer to its bytes.
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

// release returns the buffer to the pool.
func (b *readBuffer) release() {
	b.put()
	b.buf, b.r, b.w = nil, 0, 0
	b.memory.Release(&b.reserved, b.reserved.Bytes)
}

// abandon is release while a goroutine may still use the last message: the garbage collector frees
// the buffer.
func (b *readBuffer) abandon() {
	b.buf, b.kept, b.r, b.w = nil, false, 0, 0
	b.memory.Release(&b.reserved, b.reserved.Bytes)
}

// bytes returns the bytes that were read and not handed over.
func (b *readBuffer) bytes() []byte {
	if b.buf == nil {
		return nil
	}
	return b.buf.B[b.r:b.w]
}
