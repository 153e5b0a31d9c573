// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file bounds the memory of all read buffers of a Reader together. Who wants more than there is
// waits its turn, and so that two who both hold a part of what they need do not wait for each other, one
// at a time may have more than its share.

import (
	"sync"
	"sync/atomic"
)

// freeSize is the size of a buffer that costs nothing: every connection may have one, so that small
// messages never wait for large ones.
const freeSize = 16 << 10

// A budget counts bytes.
type budget struct {
	limit int64
	used  atomic.Int64
	waits atomic.Uint64 // How often somebody had to wait.

	mu        sync.Mutex // Guards what follows.
	overdrawn bool
	changed   chan struct{} // Closed when something was given back; nil when nobody waits.
	waiting   atomic.Bool   // changed is not nil.
}

// A loan is what one connection has of a budget.
type loan struct {
	bytes     int64
	overdraft bool
}

// price is what a buffer of so many bytes costs.
func price(size int) int64 {
	if size <= freeSize {
		return 0
	}
	return int64(1) << bufferClass(size)
}

// take changes l to the price of size bytes, if there is as much.
func (b *budget) take(l *loan, size int) bool {
	more := price(size) - l.bytes
	if more <= 0 {
		b.giveBack(l, -more)
		return true
	}
	if !l.overdraft && b.used.Add(more) > b.limit {
		b.used.Add(-more)
		return false
	} else if l.overdraft {
		b.used.Add(more)
	}
	l.bytes += more
	return true
}

// await changes l to the price of size bytes as soon as there is as much, or nobody else has overdrawn.
// It says no when quit is closed before.
func (b *budget) await(l *loan, size int, quit <-chan struct{}) bool {
	waited := false
	for {
		b.mu.Lock()
		if !b.overdrawn && !b.take(l, size) {
			b.overdrawn, l.overdraft = true, true
		}
		if b.take(l, size) {
			b.mu.Unlock()
			return true
		}
		if b.changed == nil {
			b.changed = make(chan struct{})
			b.waiting.Store(true)
		}
		changed := b.changed
		b.mu.Unlock()
		if b.used.Load()+price(size)-l.bytes <= b.limit {
			continue // It was given back before anybody knew that we wait.
		}
		if !waited {
			waited = true
			b.waits.Add(1)
		}
		select {
		case <-changed:
		case <-quit:
			return false
		}
	}
}

// giveBack gives so many bytes back, and wakes those who wait.
func (b *budget) giveBack(l *loan, bytes int64) {
	if bytes == 0 {
		return
	}
	l.bytes -= bytes
	b.used.Add(-bytes)
	if l.overdraft && l.bytes == 0 {
		l.overdraft = false
		b.mu.Lock()
		b.overdrawn = false
		b.mu.Unlock()
	}
	if !b.waiting.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.changed != nil {
		close(b.changed)
		b.changed = nil
		b.waiting.Store(false)
	}
}
