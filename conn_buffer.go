// SPDX-License-Identifier: Apache-2.0

package udsipc

import (
	"fmt"
	"time"
)

// This file is the buffer of a receiving connection: it grows by what arrives, and is as small as what it
// holds while the connection waits.

const (
	moveOnWait    = 64 << 10 // Up to so many bytes are moved to a smaller buffer for a wait.
	growthFactor  = 4        // How much a buffer may grow once it is full.
	maxSpareRatio = 16       // How much larger than its bytes a waiting buffer may be.
)

// What is moved for a wait ends in a buffer that costs nothing, or is large. No constant of type uint64 is negative.
const _ = uint64(moveOnWait - freeSize)

// holdPatience is how long a peer may bring nothing of a message that holds read memory while others wait for that.
const holdPatience = 2 * time.Second

// maxHold is how long a message without WithMessageTimeout may hold read memory while others wait for that.
const maxHold = 30 * time.Second

// errHolding is why a message is not waited for any longer, if others wait for memory.
var errHolding = fmt.Errorf("%w: nothing of a message came for %v while others waited for the memory that it holds (WithReadMemory)", errTooSlow, holdPatience)

// heldTooLong is when a message that is waited for from now on has held its memory for too long, if others want it then.
func (in *inbound) heldTooLong(now time.Time) time.Time {
	if in.frame == 0 && in.memory.Contested() && now.Sub(in.frameAt) > maxHold {
		return now // Nobody keeps it for ever, a byte at a time.
	}
	return now.Add(holdPatience)
}

// lastMessage is the message that was handed over last, as long as nothing is read after it.
func (in *inbound) lastMessage() []byte {
	return in.buf.b[in.r-in.last : in.r : in.r]
}

// midway returns how many bytes of an unfinished message there are.
func (in *inbound) midway() int {
	return in.w - in.r
}

// space makes room for the next bytes: in a small buffer, or, as long as much comes, in one of the size of
// a read, or a larger one for a larger frame. That grows only when it is full, so a frame that is
// announced and does not come costs nothing. It says no if there is no room, and the budget is used up: a
// small buffer is always there.
func (in *inbound) space() bool {
	in.yield()
	size := max(in.bufSize, in.usual)
	if in.brought < freeSize && in.usual == 0 {
		size = min(size, freeSize)
	}
	have := in.w - in.r
	switch {
	case in.buf == nil:
		if !in.memory.TryReserve(&in.loan, size) {
			size = min(size, freeSize)
		}
		in.buf, in.r, in.w = getBuffer(size), 0, 0
	case len(in.buf.b) < size && in.memory.TryReserve(&in.loan, size):
		in.move(size)
	case have == 0:
		in.r, in.w = 0, 0
	case have == len(in.buf.b):
		size = in.larger()
		if !in.memory.TryReserve(&in.loan, size) {
			return false
		}
		in.move(size)
	case in.r > 0 && (in.w == len(in.buf.b) || in.r+in.need > len(in.buf.b)):
		copy(in.buf.b, in.buf.b[in.r:in.w])
		in.r, in.w = 0, have
	}
	return true
}

// larger is the size of the next buffer, once one is full.
func (in *inbound) larger() int {
	size := growthFactor * len(in.buf.b)
	if in.need > 0 {
		size = min(in.need, size)
	}
	if len(in.buf.b) < freeSize {
		size = min(size, freeSize)
	}
	return max(size, len(in.buf.b)+1)
}

// yield gives back, while others wait for memory, what the connection has beyond its message at hand. A message
// that has waited for its turn keeps what it has, to its end.
func (in *inbound) yield() {
	if in.loan.bytes == 0 || !in.memory.Contested() || in.turnOf == in.counts.received.Load()+1 {
		return
	}
	have := in.w - in.r
	switch {
	case have == 0:
		in.release()
	case price(have) < in.loan.bytes:
		in.move(max(have, freeSize))
		in.memory.TryReserve(&in.loan, have) // Less than before.
	}
}

// awaitSpace is space for a connection that was told no. It waits for its turn, and keeps its place until the message
// is there whole. A connection that is to be handed over waits no longer than for its peer. It says no at the end of
// the connection.
func (in *inbound) awaitSpace() bool {
	in.tellHandled()
	if next := in.counts.received.Load() + 1; in.turnOf != next {
		in.turnOf = next
		in.loan.settle()
	}
	size := in.larger()
	granted := in.memory.Reserve(&in.loan, size)
	var late <-chan time.Time
	for {
		if late == nil && in.handing.Load() && !in.closing.Load() {
			in.beginHandOver()
			timer := time.NewTimer(time.Until(in.handEnd))
			defer timer.Stop()
			late = timer.C
		}
		expired := in.untilLimit()
		select {
		case <-granted:
			in.move(size)
			in.granted = true
			in.frameAt, in.waitAt, in.handEnd = time.Time{}, time.Time{}, time.Time{} // The peer is not to blame for the wait.
			in.began = time.Now()
			return true
		case <-in.stirred:
		case <-late:
			in.tooLate()
			late = nil
		case <-expired:
			in.memory.Cancel(&in.loan)
			return false
		case <-in.gone:
			in.memory.Cancel(&in.loan)
			return false
		}
	}
}

// ceiling is how far the buffer may be filled. A frame that is larger than a read is read to its end
// and no further, so that the next one begins at the start of the buffer and needs no copy.
// Neither is any byte of the next one read that the next process is to have.
func (in *inbound) ceiling() int {
	if in.handing.Load() && !in.closing.Load() {
		return min(len(in.buf.b), max(in.r+in.need, in.w+1))
	}
	if in.need > in.bufSize {
		return min(len(in.buf.b), in.r+in.need)
	}
	return len(in.buf.b)
}

// move puts what is unread into another buffer of size bytes or more.
func (in *inbound) move(size int) {
	next := getBuffer(size)
	have := copy(next.b, in.buf.b[in.r:in.w])
	putBuffer(in.buf)
	in.buf, in.r, in.w = next, 0, have
}

// park makes the buffer as small as what it holds.
func (in *inbound) park() {
	have := in.w - in.r
	switch {
	case in.buf == nil:
	case have == 0:
		in.release()
	case have <= moveOnWait && 1<<bufferClass(have) < len(in.buf.b), maxSpareRatio*have < len(in.buf.b):
		in.move(have)
		in.memory.TryReserve(&in.loan, have) // Less than before.
	}
}

// suspend is park for a wait that the peer decides on: what is unread stays, and no memory is on loan for it.
func (in *inbound) suspend() {
	have := in.w - in.r
	if have == 0 {
		in.release()
		return
	}
	if 1<<bufferClass(have) < len(in.buf.b) {
		in.move(have)
	}
	in.memory.Release(&in.loan, in.loan.bytes)
}

// release gives the buffer back.
func (in *inbound) release() {
	putBuffer(in.buf)
	in.buf, in.r, in.w = nil, 0, 0
	in.memory.Release(&in.loan, in.loan.bytes)
}

// drop is release while somebody may still use the last message: the buffer is left to the collector.
func (in *inbound) drop() {
	in.buf, in.r, in.w = nil, 0, 0
	in.memory.Release(&in.loan, in.loan.bytes)
}

// buffered is what was read and is not handed over yet.
func (in *inbound) buffered() []byte {
	if in.buf == nil {
		return nil
	}
	return in.buf.b[in.r:in.w]
}

// wholeMessages counts the whole messages among what is buffered.
func (in *inbound) wholeMessages() (n uint64) {
	for rest := in.buffered(); in.skip == 0; n++ {
		length, header, err := parseHeader(rest)
		if err != nil || header == 0 || length > uint64(len(rest)-header) {
			return n
		}
		rest = rest[header+int(length):]
	}
	return n
}
