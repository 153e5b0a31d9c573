// SPDX-License-Identifier: Apache-2.0

package transport

// This file reserves memory for the read buffer of a connection, within the limit on all read
// buffers, and waits for it.

import (
	"fmt"
	"time"

	"github.com/udsipc/udsipc/internal/buffers"
	"github.com/udsipc/udsipc/internal/errdefs"
)

// uncountedSize is the size of a buffer that does not count: every connection may have one, so
// small messages never wait for memory.
const uncountedSize = 16 << 10

// It is the size of a class of the pool. The compiler rejects a negative uint64.
const (
	_ = uint64(0 - uncountedSize&(uncountedSize-1))
	_ = uint64(uncountedSize - buffers.MinSize)
)

// A Memory limits the read buffers of many connections together. It is called at most once for each
// read. A connection that waits does not change its reservation until the wait has ended.
type Memory interface {
	// TryReserve changes l to the counted size of a buffer of size bytes. It returns false if the
	// memory is used up, or if others wait for it.
	TryReserve(l *Reservation, size int) bool

	// Reserve queues l for the counted size of size bytes. The channel is closed when l has it.
	Reserve(l *Reservation, size int) <-chan struct{}

	// Cancel ends the wait of l. If the memory was granted meanwhile, l keeps it.
	Cancel(l *Reservation)

	// Release releases bytes of l.
	Release(l *Reservation, bytes int64)

	// Contested reports whether a connection waits.
	Contested() bool
}

// A Reservation is the memory of one connection. It is owned by the goroutine that reads the
// connection; while that waits, by the Memory.
type Reservation struct {
	Bytes int64
	User  string // Its user; empty if not known.
	// Place among the waiting reservations of one user, kept until the message is complete; 0
	// without one.
	Ticket uint64
}

// clearTicket gives up the place: the message is complete.
func (l *Reservation) clearTicket() { l.Ticket = 0 }

// CountedSize returns what a buffer of size bytes counts for.
func CountedSize(size int) int64 {
	if size <= uncountedSize {
		return 0
	}
	return int64(1) << buffers.Class(size)
}

// maxMemoryHold is the time that a peer may send nothing of a message that holds memory, while
// others wait for memory.
const maxMemoryHold = 2 * time.Second

// maxHold is the time that a message without WithMessageTimeout may hold memory, while others wait
// for it.
const maxHold = 30 * time.Second

// errHoldsMemory marks a deadline that applies only while others wait for memory.
var errHoldsMemory = fmt.Errorf(
	"%w: nothing of a message came for %v while others waited for the memory that it holds (WithMaxReadMemory)",
	errdefs.ErrTooSlow, maxMemoryHold)

// yieldMemory releases, while others wait for memory, what the connection has beyond its present
// message. A message that has waited for its turn keeps its memory to its end.
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
		case <-expired:
			in.input.memory.Cancel(&in.input.reserved)
			return false
		case <-in.end.cancelled:
			in.input.memory.Cancel(&in.input.reserved)
			return false
		}
	}
}
