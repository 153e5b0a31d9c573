// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file is what a receiving connection knows of the limit on the memory of all read buffers.

// freeSize is the size of a buffer that costs nothing: every connection may have one, so that small
// messages never wait for large ones.
const freeSize = 16 << 10

// It is the size of a class. No constant of type uint64 is negative: a false condition is an error of the compiler.
const (
	_ = uint64(0 - freeSize&(freeSize-1))
	_ = uint64(freeSize - minBufferSize)
)

// A memoryLimit bounds the read buffers of many connections together. It is asked once for each read at most. A
// connection that waits leaves its loan alone until the wait is over.
type memoryLimit interface {
	// TryReserve changes l to the price of size bytes. It returns false if there is not as much, or others wait.
	TryReserve(l *loan, size int) bool

	// Reserve has l wait for its turn to get the price of size bytes. The channel is closed once l has it.
	Reserve(l *loan, size int) <-chan struct{}

	// Cancel ends the wait of l. What l got at the same moment it keeps.
	Cancel(l *loan)

	// Release gives back so many bytes of l.
	Release(l *loan, bytes int64)

	// Contested reports whether a connection waits.
	Contested() bool
}

// A loan is what one connection has of a memoryLimit. It belongs to the goroutine that reads the connection, and while that
// waits, to the memoryLimit.
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
