// SPDX-License-Identifier: Apache-2.0

package transport

// This file is what a receiving connection knows of the limit on the memory of all read buffers,
// and how it waits for memory.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/errdefs"
)

// uncountedSize is the size of a buffer that costs nothing: every connection may have one, so that small
// messages never wait for large ones.
const uncountedSize = 16 << 10

// It is the size of a class. No constant of type uint64 is negative: a false condition is an error
// of the compiler.
const (
	_ = uint64(0 - uncountedSize&(uncountedSize-1))
	_ = uint64(uncountedSize - buffers.MinSize)
)

// A Memory bounds the read buffers of many connections together. It is asked once for each
// read at most. A connection that waits leaves its reservation alone until the wait is over.
type Memory interface {
	// TryReserve changes l to the counted size of size bytes. It returns false if there is not as
	// much, or others wait.
	TryReserve(l *Reservation, size int) bool

	// Reserve has l wait for its turn to get the counted size of size bytes. The channel is closed
	// once l has it.
	Reserve(l *Reservation, size int) <-chan struct{}

	// Cancel ends the wait of l. What l got at the same moment it keeps.
	Cancel(l *Reservation)

	// Release gives back so many bytes of l.
	Release(l *Reservation, bytes int64)

	// Contested reports whether a connection waits.
	Contested() bool
}

// A Reservation is what one connection has of a Memory. It belongs to the goroutine that reads the
// connection, and while that waits, to the Memory.
type Reservation struct {
	Bytes  int64
	User   string // Whose it is; empty if not known.
	Ticket uint64 // The place among those of one user, kept until clearTicket; 0 without one.
}

// clearTicket gives up l's place: its message is complete.
func (l *Reservation) clearTicket() { l.Ticket = 0 }

// CountedSize returns what a buffer of size bytes counts for.
func CountedSize(size int) int64 {
	if size <= uncountedSize {
		return 0
	}
	return int64(1) << buffers.Class(size)
}

// maxMemoryHold is how long a peer may bring nothing of a message that holds read memory while
// others wait for that.
const maxMemoryHold = 2 * time.Second

// maxHold is how long a message without WithMessageTimeout may hold read memory while others wait
// for that.
const maxHold = 30 * time.Second

// errHoldsMemory is why a message is not waited for any longer, if others wait for memory.
var errHoldsMemory = fmt.Errorf("%w: nothing of a message came for %v while others waited for the memory that it holds (WithMaxReadMemory)", errdefs.ErrTooSlow, maxMemoryHold)

// yieldMemory gives back, while others wait for memory, what the connection has beyond its message at
// hand. A message that has waited for its turn keeps what it has, to its end.
func (b *readBuffer) yieldMemory(message uint64) {
	if b.reserved.Bytes == 0 || !b.memory.Contested() || b.waitedFor == message {
		return
	}
	have := b.w - b.r
	switch {
	case have == 0:
		b.release()
	case CountedSize(have) < b.reserved.Bytes:
		b.move(max(have, uncountedSize))
		b.memory.TryReserve(&b.reserved, have) // Less than before.
	}
}

// waitForMemory waits for memory after ensureBuffer got none. The connection keeps its place until the
// message is complete. A connection that is to be handed over waits no longer than for its peer.
// It returns false at the end of the connection.
func (in *In) waitForMemory() bool {
	in.SendAck()
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
