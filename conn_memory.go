// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a receiving connection knows of the limit on the memory of all read buffers,
// and how it waits for memory.

import (
	"fmt"
	"time"
)

// uncountedSize is the size of a buffer that costs nothing: every connection may have one, so that small
// messages never wait for large ones.
const uncountedSize = 16 << 10

// It is the size of a class. No constant of type uint64 is negative: a false condition is an error
// of the compiler.
const (
	_ = uint64(0 - uncountedSize&(uncountedSize-1))
	_ = uint64(uncountedSize - minBufferSize)
)

// A memoryLimit bounds the read buffers of many connections together. It is asked once for each
// read at most. A connection that waits leaves its loan alone until the wait is over.
type memoryLimit interface {
	// TryReserve changes l to the price of size bytes. It returns false if there is not as much, or
	// others wait.
	TryReserve(l *reservation, size int) bool

	// Reserve has l wait for its turn to get the price of size bytes. The channel is closed once l
	// has it.
	Reserve(l *reservation, size int) <-chan struct{}

	// Cancel ends the wait of l. What l got at the same moment it keeps.
	Cancel(l *reservation)

	// Release gives back so many bytes of l.
	Release(l *reservation, bytes int64)

	// Contested reports whether a connection waits.
	Contested() bool
}

// A reservation is what one connection has of a memoryLimit. It belongs to the goroutine that reads the
// connection, and while that waits, to the memoryLimit.
type reservation struct {
	bytes  int64
	user   string // Whose it is; empty for anybody.
	ticket uint64 // The place among those of one user, kept until settle; 0 without one.
}

// clearTicket gives l's place up: what it was wanted for is done.
func (l *reservation) clearTicket() { l.ticket = 0 }

// countedSize is what a buffer of so many bytes costs.
func countedSize(size int) int64 {
	if size <= uncountedSize {
		return 0
	}
	return int64(1) << bufferClass(size)
}

// maxMemoryHold is how long a peer may bring nothing of a message that holds read memory while
// others wait for that.
const maxMemoryHold = 2 * time.Second

// maxHold is how long a message without WithMessageTimeout may hold read memory while others wait
// for that.
const maxHold = 30 * time.Second

// errHoldsMemory is why a message is not waited for any longer, if others wait for memory.
var errHoldsMemory = fmt.Errorf("%w: nothing of a message came for %v while others waited for the memory that it holds (WithMaxReadMemory)", errTooSlow, maxMemoryHold)

// yieldMemory gives back, while others wait for memory, what the connection has beyond its message at
// hand. A message that has waited for its turn keeps what it has, to its end.
func (b *readBuffer) yieldMemory(message uint64) {
	if b.reserved.bytes == 0 || !b.memory.Contested() || b.waitedFor == message {
		return
	}
	have := b.w - b.r
	switch {
	case have == 0:
		b.release()
	case countedSize(have) < b.reserved.bytes:
		b.move(max(have, uncountedSize))
		b.memory.TryReserve(&b.reserved, have) // Less than before.
	}
}

// waitForMemory is space for a connection that was told no. It waits for its turn, and keeps its place
// until the message is there whole. A connection that is to be handed over waits no longer than for
// its peer. It says no at the end of the connection.
func (in *inbound) waitForMemory() bool {
	in.sendAck()
	if next := in.counts.received.Load() + 1; in.input.waitedFor != next {
		in.input.waitedFor = next
		in.input.reserved.clearTicket()
	}
	size := in.input.nextBufferSize()
	granted := in.input.memory.Reserve(&in.input.reserved, size)
	var late <-chan time.Time
	for {
		if late == nil && in.handOver.requested.Load() && !in.end.closing.Load() {
			in.beginHandOver()
			timer := time.NewTimer(time.Until(in.handOver.deadline))
			defer timer.Stop()
			late = timer.C
		}
		expired := in.userDeadlineTimer()
		select {
		case <-granted:
			in.input.move(size)
			in.input.justGranted = true
			in.wait.restart()
			in.handOver.deadline = time.Time{}
			return true
		case <-in.wait.recheck:
		case <-late:
			in.expireHandOver()
			late = nil
		case <-expired:
			in.input.memory.Cancel(&in.input.reserved)
			return false
		case <-in.end.cancelled:
			in.input.memory.Cancel(&in.input.reserved)
			return false
		}
	}
}
