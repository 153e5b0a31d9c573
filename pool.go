// SPDX-License-Identifier: Apache-2.0

package udsipc

// This file bounds the memory of all read buffers of a Reader together. Who wants more than there
// is waits for its turn: users in turn, so that the connections of one do not starve those of
// another, and of one user who came first. Nobody takes anything while somebody waits. So that two
// who both hold a part of what they need do not wait for each other, one at a time may have more
// than there is.

import (
	"slices"
	"sync"
	"sync/atomic"

	"github.com/udsipc/udsipc/internal/transport"
)

// A readMemory counts bytes. It is the transport.Memory of the connections of a Reader.
type readMemory struct {
	limit     int64
	used      atomic.Int64
	waits     atomic.Uint64                         // How often somebody had to wait.
	waiting   atomic.Int64                          // How many wait now.
	exceeding atomic.Pointer[transport.Reservation] // Who may have more than there is; set and cleared under mu.

	mu        sync.Mutex // Guards what follows.
	tickets   uint64
	users     map[string]*userWaiters // Those of whom somebody waits.
	nextUsers []*userWaiters          // The same, in the order in which it is their turn.
}

// userWaiters has the waits of one user, in the order of their tickets.
type userWaiters struct {
	user    string
	waiters []*memoryWaiter
}

// A memoryWaiter is the wait of one connection.
type memoryWaiter struct {
	reservation *transport.Reservation
	more        int64
	granted     chan struct{} // Closed once the reservation has it.
}

// TryReserve changes l to the counted size of size bytes, if there is as much, and no connection waits.
func (b *readMemory) TryReserve(l *transport.Reservation, size int) bool {
	more := transport.CountedSize(size) - l.Bytes
	switch {
	case more <= 0:
		b.Release(l, -more)
	case b.waiting.Load() == 0 && b.add(more):
		l.Bytes += more
	default:
		return b.reserveExcess(l, more)
	}
	return true
}

// add counts bytes as used, if there are as many.
func (b *readMemory) add(bytes int64) bool {
	for {
		used := b.used.Load()
		if used+bytes > b.limit {
			return false
		}
		if b.used.CompareAndSwap(used, used+bytes) {
			return true
		}
	}
}

// reserveExcess takes more for the one that may have it.
func (b *readMemory) reserveExcess(l *transport.Reservation, more int64) bool {
	if b.exceeding.Load() != l {
		return false
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.exceeding.Load() != l { // Enough was given back.
		return false
	}
	b.used.Add(more)
	l.Bytes += more
	return true
}

// Contested reports whether a connection waits.
func (b *readMemory) Contested() bool { return b.waiting.Load() > 0 }

// Reserve has l wait for its turn to get the counted size of size bytes. Its goroutine leaves l alone until the channel
// is closed, or until it has called Cancel.
func (b *readMemory) Reserve(l *transport.Reservation, size int) <-chan struct{} {
	t := &memoryWaiter{reservation: l, more: max(0, transport.CountedSize(size)-l.Bytes), granted: make(chan struct{})}
	b.mu.Lock()
	defer b.mu.Unlock()
	if l.Ticket == 0 {
		b.tickets++
		l.Ticket = b.tickets
	}
	u := b.users[l.User]
	if u == nil {
		u = &userWaiters{user: l.User}
		if b.users == nil {
			b.users = make(map[string]*userWaiters)
		}
		b.users[l.User] = u
		b.nextUsers = append(b.nextUsers, u)
	}
	at, _ := slices.BinarySearchFunc(u.waiters, l.Ticket, func(t *memoryWaiter, ticket uint64) int {
		if t.reservation.Ticket < ticket {
			return -1
		}
		return 1
	})
	u.waiters = slices.Insert(u.waiters, at, t)
	b.waiting.Add(1) // Before used is looked at: whoever gives back does it the other way round.
	b.grantLocked()
	select {
	case <-t.granted:
	default:
		b.waits.Add(1)
	}
	return t.granted
}

// Cancel ends the wait of l. What was granted at the same moment is in l.
func (b *readMemory) Cancel(l *transport.Reservation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	u := b.users[l.User]
	if u == nil {
		return
	}
	at := slices.IndexFunc(u.waiters, func(t *memoryWaiter) bool { return t.reservation == l })
	if at < 0 {
		return
	}
	u.waiters = slices.Delete(u.waiters, at, at+1)
	b.waiting.Add(-1)
	if len(u.waiters) == 0 {
		b.nextUsers = slices.DeleteFunc(b.nextUsers, func(other *userWaiters) bool { return other == u })
		delete(b.users, u.user)
	}
	b.grantLocked() // It may have been the first, and wanted more than the next.
}

// grantLocked serves those whose turn it is. Nobody is passed over: a large message would wait for ever.
func (b *readMemory) grantLocked() {
	for len(b.nextUsers) > 0 {
		u := b.nextUsers[0]
		t := u.waiters[0]
		switch {
		case b.add(t.more):
		case b.exceeding.Load() == nil:
			b.exceeding.Store(t.reservation)
			b.used.Add(t.more)
		default:
			return
		}
		u.waiters = slices.Delete(u.waiters, 0, 1)
		b.nextUsers = slices.Delete(b.nextUsers, 0, 1)
		if len(u.waiters) > 0 {
			b.nextUsers = append(b.nextUsers, u)
		} else {
			delete(b.users, u.user)
		}
		t.reservation.Bytes += t.more
		b.waiting.Add(-1)
		close(t.granted)
	}
}

// Release gives so many bytes back, and serves those who wait.
func (b *readMemory) Release(l *transport.Reservation, bytes int64) {
	if bytes == 0 {
		return
	}
	l.Bytes -= bytes
	b.used.Add(-bytes)
	if b.exceeding.Load() == nil && b.waiting.Load() == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.used.Load() <= b.limit {
		b.exceeding.Store(nil) // Nobody has more than there is any more, whoever gave back.
	}
	b.grantLocked()
}
