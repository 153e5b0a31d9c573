// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a receiving connection knows of the limit on the memory of all read buffers,
// and how it waits for memory.

import (
	"fmt"
	"time"
)

// freeSize is the size of a buffer that costs nothing: every connection may have one, so that small
// messages never wait for large ones.
const freeSize = 16 << 10

// It is the size of a class. No constant of type uint64 is negative: a false condition is an error
// of the compiler.
const (
	_ = uint64(0 - freeSize&(freeSize-1))
	_ = uint64(freeSize - minBufferSize)
)

// A memoryLimit bounds the read buffers of many connections together. It is asked once for each
// read at most. A connection that waits leaves its loan alone until the wait is over.
type memoryLimit interface {
	// TryReserve changes l to the price of size bytes. It returns false if there is not as much, or
	// others wait.
	TryReserve(l *loan, size int) bool

	// Reserve has l wait for its turn to get the price of size bytes. The channel is closed once l
	// has it.
	Reserve(l *loan, size int) <-chan struct{}

	// Cancel ends the wait of l. What l got at the same moment it keeps.
	Cancel(l *loan)

	// Release gives back so many bytes of l.
	Release(l *loan, bytes int64)

	// Contested reports whether a connection waits.
	Contested() bool
}

// A loan is what one connection has of a memoryLimit. It belongs to the goroutine that reads the
// connection, and while that waits, to the memoryLimit.
type loan struct {
	bytes  int64
	user   string // Whose it is; empty for anybody.
	ticket uint64 // The place among those of one user, kept until settle; 0 without one.
}

// settle gives l's place up: what it was wanted for is done.
func (l *loan) settle() { l.ticket = 0 }

// price is what a buffer of so many bytes costs.
func price(size int) int64 {
	if size <= freeSize {
		return 0
	}
	return int64(1) << bufferClass(size)
}

// holdPatience is how long a peer may bring nothing of a message that holds read memory while
// others wait for that.
const holdPatience = 2 * time.Second

// maxHold is how long a message without WithMessageTimeout may hold read memory while others wait
// for that.
const maxHold = 30 * time.Second

// errHolding is why a message is not waited for any longer, if others wait for memory.
var errHolding = fmt.Errorf("%w: nothing of a message came for %v while others waited for the memory that it holds (WithReadMemory)", errTooSlow, holdPatience)

// yield gives back, while others wait for memory, what the connection has beyond its message at
// hand. A message that has waited for its turn keeps what it has, to its end.
func (b *readBuffer) yield(message uint64) {
	if b.loan.bytes == 0 || !b.memory.Contested() || b.turnOf == message {
		return
	}
	have := b.w - b.r
	switch {
	case have == 0:
		b.release()
	case price(have) < b.loan.bytes:
		b.move(max(have, freeSize))
		b.memory.TryReserve(&b.loan, have) // Less than before.
	}
}

// awaitSpace is space for a connection that was told no. It waits for its turn, and keeps its place
// until the message is there whole. A connection that is to be handed over waits no longer than for
// its peer. It says no at the end of the connection.
func (in *inbound) awaitSpace() bool {
	in.tellHandled()
	if next := in.counts.received.Load() + 1; in.input.turnOf != next {
		in.input.turnOf = next
		in.input.loan.settle()
	}
	size := in.input.larger()
	granted := in.input.memory.Reserve(&in.input.loan, size)
	var late <-chan time.Time
	for {
		if late == nil && in.handOver.requested.Load() && !in.end.closing.Load() {
			in.beginHandOver()
			timer := time.NewTimer(time.Until(in.handOver.deadline))
			defer timer.Stop()
			late = timer.C
		}
		expired := in.untilLimit()
		select {
		case <-granted:
			in.input.move(size)
			in.input.granted = true
			in.wait.restart()
			in.handOver.deadline = time.Time{}
			return true
		case <-in.wait.stirred:
		case <-late:
			in.tooLate()
			late = nil
		case <-expired:
			in.input.memory.Cancel(&in.input.loan)
			return false
		case <-in.end.gone:
			in.input.memory.Cancel(&in.input.loan)
			return false
		}
	}
}
